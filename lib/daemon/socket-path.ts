/**
 * Where the control socket is reached. The path of a Unix socket may have 107 bytes at most, a KITH_HOME may be longer:
 * so both sides open the home directory first and go through /proc/self/fd, which is always short.
 */
import { closeSync, constants, openSync } from 'node:fs'

export const socketName = 'kithd.sock'

export interface SocketPath {
  /** valid until `close` */
  path: string
  close(): void
}

/** Throws the system's error (ENOENT, EACCES...) when the home cannot be opened. */
export function socketPath(home: string): SocketPath {
  const fd = openSync(home, constants.O_RDONLY | constants.O_DIRECTORY)
  return { path: `/proc/self/fd/${fd}/${socketName}`, close: () => closeSync(fd) }
}
