#!/usr/bin/env node
/**
 * The `kith` command: parses arguments, runs one command, and turns whatever goes wrong into one line on stderr and the
 * exit code of base/errors.ts. With --json that line is {"error":{"code","message"}}.
 */
import { CommanderError, type Command } from 'commander'
import { asKithError, exitCodes, type KithError } from '../base/errors.js'
import { buildProgram } from './program.js'

function prepare(command: Command): void {
  command.exitOverride().configureOutput({ writeErr: () => undefined })
  for (const sub of command.commands) prepare(sub)
}

/** One line, whatever the message held. */
function oneLine(message: string): string {
  return message.replace(/\s*[\r\n]+\s*/g, ' ').trim()
}

function fail(error: KithError): never {
  const message = oneLine(error.message)
  const line = process.argv.includes('--json')
    ? JSON.stringify({ error: { code: error.code, message } })
    : `kith: ${message}`
  process.stderr.write(`${line}\n`)
  if (error.code === 'internal' && process.env.KITH_LOG === 'debug')
    process.stderr.write(`${error.stack ?? ''}\n`)
  process.exit(exitCodes[error.code])
}

function usageError(error: CommanderError): never {
  if (error.exitCode === 0) process.exit(0) // --help and --version have been printed
  const asked = error.code === 'commander.help'
  const message = asked ? 'no command given; see kith --help' : error.message.replace(/^error: /, '')
  const line = process.argv.includes('--json')
    ? JSON.stringify({ error: { code: 'usage', message: oneLine(message) } })
    : `kith: ${oneLine(message)}`
  process.stderr.write(`${line}\n`)
  process.exit(exitCodes.usage)
}

// A reader that has seen enough (`kith snapshots | head`) is no failure.
process.stdout.on('error', () => process.exit(0))

try {
  const program = buildProgram()
  prepare(program)
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) usageError(error)
  fail(asKithError(error))
}
