/**
 * The segment that is appended to, opened a second time to write past the kernel's cache: what partners gave us to keep is not
 * read soon. Copying it into the cache, and writing it out from there, takes the processor twice as long; and a commit finds
 * next to nothing left to write.
 */
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { writeDirect } from '../base/direct.js'

/** What file systems answer that cannot do it, or not in units of 4 KiB. */
const refusals = new Set(['EINVAL', 'EOPNOTSUPP'])

export class DirectFile {
  private opened: { path: string; handle: FileHandle } | undefined
  private isRefused = false

  /**
   * Called for one write at a time; the file exists.
   * @param position of it and of the parts' sum directUnit is a divisor
   * @returns false when the file system cannot do it: nothing, or a part, is written then
   * @throws system errors
   */
  async write(path: string, parts: readonly Buffer[], position: number): Promise<boolean> {
    if (this.isRefused) return false
    try {
      const { fd } = await this.handle(path)
      await writeDirect(fd, parts, position)
      return true
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && refusals.has(String(error.code)))) throw error
      this.isRefused = true
      await this.close()
      return false
    }
  }

  /** The file, if it is this one, or whichever is open; a removed file keeps its space until then. */
  async close(path?: string): Promise<void> {
    if (path !== undefined && this.opened?.path !== path) return
    const { opened } = this
    this.opened = undefined
    await opened?.handle.close()
  }

  private async handle(path: string): Promise<FileHandle> {
    if (this.opened?.path === path) return this.opened.handle
    await this.close()
    const handle = await open(path, constants.O_WRONLY | constants.O_DIRECT)
    this.opened = { path, handle }
    return handle
  }
}
