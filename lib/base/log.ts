/** The log: JSON lines by pino. Never holds a secret, a file's content or a file's name. */
import { pino, type Logger } from 'pino'

export type Log = Logger

/** A log into `file` (created 0600, appended), or to stderr when none is given. Level from KITH_LOG, else `info`. */
export function openLog(file?: string): Log {
  const level = process.env.KITH_LOG ?? 'info'
  if (file === undefined) return pino({ level }, pino.destination(2))
  return pino(
    { level },
    pino.destination({ dest: file, append: true, mkdir: false, mode: 0o600, sync: true }),
  )
}

/** A log that goes nowhere, for tests. */
export function silentLog(): Log {
  return pino({ level: 'silent' })
}
