/**
 * The mark that a volume is to be mounted: a file in the folder that the volume has in the home. It is there from
 * `kith mount` until `kith unmount`, whatever dies meanwhile, and durable when set() and clear() return.
 *
 * It holds the inode number of the directory, in decimal. When the disk that the directory is on is not there, its place
 * may be taken by an empty mount point: to protect that would be to say that every file was deleted.
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { reached } from '../base/persistence.js'
import { stateDirOf } from '../mount/mount.js'
import { syncDirectory, writeDurably } from './home.js'

export class MountMark {
  readonly #dir: string
  readonly #file: string

  constructor(home: string, volumeId: Buffer) {
    this.#dir = stateDirOf({ home, volumeId })
    this.#file = join(this.#dir, 'wanted')
  }

  /** The inode number of the directory that is to be mounted, or undefined where none is. */
  get(): bigint | undefined {
    try {
      const text = readFileSync(this.#file, 'latin1').trim()
      return /^\d{1,20}$/.test(text) ? BigInt(text) : undefined
    } catch {
      return undefined
    }
  }

  set(ino: bigint): void {
    if (this.get() === ino) return
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
    writeDurably(this.#file, Buffer.from(`${ino}\n`))
  }

  clear(): void {
    if (this.get() === undefined) return
    reached('markRemove')
    rmSync(this.#file, { force: true })
    syncDirectory(this.#dir)
  }
}
