#!/usr/bin/env node
/**
 * The `kith` command: parses arguments, runs one command, and turns whatever goes wrong into one line on stderr and the
 * exit code of base/errors.ts. With --json that line is {"error":{"code","message"}}.
 */
import { asKithError, exitCodes, type KithError } from '../base/errors.js'
import { quickCommand, runQuick } from './quick.js'

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

// A reader that has seen enough (`kith snapshots | head`) is no failure.
process.stdout.on('error', () => process.exit(0))

try {
  const quick = quickCommand(process.argv.slice(2))
  if (quick) await runQuick(quick)
  else await (await import('./parse.js')).parseAndRun()
} catch (error) {
  fail(asKithError(error))
}
