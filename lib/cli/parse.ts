/** Everything that is not a quick command (quick.ts), by the argument parser. */
import { CommanderError, type Command } from 'commander'
import { KithError } from '../base/errors.js'
import { buildProgram } from './program.js'

/** @throws KithError usage for what the parser refuses; otherwise what the command throws */
export async function parseAndRun(): Promise<void> {
  const program = buildProgram()
  prepare(program)
  try {
    await program.parseAsync()
  } catch (error) {
    throw error instanceof CommanderError ? usageError(error) : error
  }
}

function prepare(command: Command): void {
  command.exitOverride().configureOutput({ writeErr: () => undefined })
  for (const sub of command.commands) prepare(sub)
}

function usageError(error: CommanderError): KithError {
  if (error.exitCode === 0) process.exit(0) // --help and --version have been printed
  const asked = error.code === 'commander.help'
  const message = asked ? 'no command given; see kith --help' : error.message.replace(/^error: /, '')
  return new KithError('usage', message)
}
