/**
 * The mark that a volume is to be mounted: a file in the folder that the volume has in the home. It is there from
 * `kith mount` until `kith unmount`, whatever dies meanwhile, and durable when set() and clear() return.
 *
 * It holds the inode number of the directory, in decimal, and ` watch` where that engine is to be used (engine.ts). When the disk that the directory is on is not there, its place
 * may be taken by an empty mount point: to protect that would be to say that every file was deleted.
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { reached } from '../base/persistence.js'
import type { EngineName } from '../mount/types.js'
import { stateDirOf } from '../mount/mount.js'
import { syncDirectory, writeDurably } from '../base/durable.js'

export interface Marked {
  /** inode number of the directory */
  ino: bigint
  engine: EngineName
}

export class MountMark {
  readonly #dir: string
  readonly #file: string

  constructor(home: string, volumeId: Buffer) {
    this.#dir = stateDirOf({ home, volumeId })
    this.#file = join(this.#dir, 'wanted')
  }

  /** What is to be mounted, and how; undefined where nothing is. */
  get(): Marked | undefined {
    try {
      const [, ino, watch] = /^(\d{1,20})( watch)?$/.exec(readFileSync(this.#file, 'latin1').trim()) ?? []
      return ino === undefined ? undefined : { ino: BigInt(ino), engine: watch ? 'watch' : 'fuse' }
    } catch {
      return undefined
    }
  }

  set({ ino, engine }: Marked): void {
    const there = this.get()
    if (there?.ino === ino && there.engine === engine) return
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
    writeDurably(this.#file, Buffer.from(`${ino}${engine === 'watch' ? ' watch' : ''}\n`))
  }

  clear(): void {
    if (this.get() === undefined) return
    reached('markRemove')
    rmSync(this.#file, { force: true })
    syncDirectory(this.#dir)
  }
}
