/** Writing past the kernel's cache, by the addon of native/posix. */
import { createRequire } from 'node:module'
import { getSystemErrorName } from 'node:util'
import { nativeFile } from './native-files.js'

interface Addon {
  writeDirect(fd: number, parts: readonly Buffer[], position: number, error: Buffer): Promise<void>
}

const addon = createRequire(import.meta.url)(nativeFile('posix.node')) as Addon

/** Position and sum of what is written past the cache are multiples of this, bytes. */
export const directUnit = 4096

/**
 * Writes the parts, which must not change meanwhile, one after the other, by a thread of the pool: as durable as any write before
 * an fdatasync of the file.
 * @param fd opened with O_DIRECT
 * @param position in the file; it and the sum of the parts are multiples of directUnit
 * @throws system errors as node:fs has them, EINVAL where the file system wants it otherwise; part of it may be written then
 */
export async function writeDirect(fd: number, parts: readonly Buffer[], position: number): Promise<void> {
  const error = Buffer.alloc(1)
  await addon.writeDirect(fd, parts, position, error)
  const errno = error.readUInt8()
  if (errno === 0) return
  const code = getSystemErrorName(-errno)
  throw Object.assign(new Error(`${code}: direct write`), { code, errno: -errno, syscall: 'pwrite' })
}
