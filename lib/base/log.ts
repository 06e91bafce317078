/** The log: JSON lines by pino. Never holds a secret, a file's content or a file's name. */
import { pino, type DestinationStream, type Logger } from 'pino'

export type Log = Logger

/** A log into `file` (created 0600, appended), or to stderr when none is given. Level from KITH_LOG, else `info`. */
export function openLog(file?: string): Log {
  const level = process.env.KITH_LOG ?? 'info'
  const dest = file ?? 2
  const destination = pino.destination({ dest, append: true, mkdir: false, mode: 0o600, sync: true })
  // A disk that is full takes no log; that must not end who writes it. Lines that fail to be written are lost.
  destination.on('error', () => undefined)
  return pino({ level }, destination satisfies DestinationStream)
}

/** A log that goes nowhere, for tests. */
export function silentLog(): Log {
  return pino({ level: 'silent' })
}
