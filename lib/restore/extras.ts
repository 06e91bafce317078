/**
 * What stands in the target of a restore and is not in the snapshot: what `--delete` removes.
 *
 * It is gathered before the first byte is written, for three reasons: the restore itself replaces .kithignore files, and
 * the rules that left a file out of every snapshot must be read before; what programs make while the restore runs was not
 * in anybody's mind when it was asked for; and what is gathered is what was shown. It is removed when everything else is
 * done, and only when all of that succeeded. A file that changed since it was gathered stays; so does a directory with
 * anything in it that stays.
 */
import { KithError } from '../base/errors.js'
import * as posix from '../base/posix.js'
import type { DirectoryEntry, Entry } from '../format/entry.js'
import { typeOf } from '../store/entries.js'
import { checkCancelled } from './content.js'
import { Comparison, type Pair } from './compare.js'
import type { LeftOutOptions } from './left-out.js'
import { emptyLedger, openFile, setAttributes } from './metadata.js'
import type { DirectoryHandle, OpenDirectories } from './open-directories.js'
import { isTemporary } from './place.js'
import type { Overwrite, RestoreOptions, TreeSource } from './types.js'

interface Extra {
  directory: DirectoryHandle
  name: Buffer
  isDirectory: boolean
  /** what it was when it was gathered */
  ino: bigint
  size: number
  mtimeNs: bigint
}

export interface Removed {
  /** names that are gone: files and directories, each counted */
  removed: number
  /** names that the snapshot has not and that stay: left out by rules, changed meanwhile, or around such */
  stayed: number
}

export class Extras {
  /** a directory before what is in it */
  readonly #found: Extra[] = []
  /** directories that both have and that lose something: their times are set once more */
  readonly #losing = new Map<DirectoryHandle, DirectoryEntry>()
  #passed = 0

  private constructor(private readonly directories: OpenDirectories) {}

  static async gather(
    source: TreeSource,
    top: DirectoryEntry,
    directories: OpenDirectories,
    leftOut: LeftOutOptions,
    signal?: AbortSignal,
  ): Promise<Extras> {
    const extras = new Extras(directories)
    const comparison = new Comparison(source, directories, { leftOut, signal })
    for await (const pair of comparison.walk(top)) extras.#take(pair)
    extras.#passed = comparison.passed
    return extras
  }

  #take({ name, saved, live, directory, around }: Pair): void {
    if (saved || !live || !directory) return
    // What a restore that was killed left is cleared by the next one; one that runs needs its own.
    if (isTemporary(name)) return
    const { ino, size, mtimeNs } = live.stat
    this.#found.push({ directory, name, isDirectory: live.type === 'directory', ino, size, mtimeNs })
    if (around) this.#losing.set(directory, around)
  }

  /** @param failed is told of each that could not be removed; the others go on */
  async remove(
    failed: (directory: DirectoryHandle, name: Buffer, error: unknown) => void,
    signal?: AbortSignal,
  ): Promise<Removed> {
    let removed = 0
    let stayed = this.#passed
    for (const extra of this.#found.reverse()) {
      checkCancelled(signal)
      try {
        const gone = await this.directories.use(extra.directory, (fd) => removeIfSame(fd, extra))
        if (gone) removed++
        else stayed++
      } catch (error) {
        failed(extra.directory, extra.name, error)
      }
    }
    for (const [handle, entry] of this.#losing) {
      this.directories.useSync(handle, (fd) =>
        setAttributes(openFile(fd), entry, emptyLedger(), { clean: false }),
      )
    }
    return { removed, stayed }
  }
}

/** False when it stays. */
function removeIfSame(dirFd: number, { name, isDirectory, ino, size, mtimeNs }: Extra): boolean {
  const stat = posix.statIfAny(dirFd, name)
  if (!stat) return true
  if (stat.ino !== ino || (typeOf(stat) === 'directory') !== isDirectory) return false
  if (isDirectory) return removeDirectory(dirFd, name)
  if (stat.size !== size || stat.mtimeNs !== mtimeNs) return false

  posix.unlinkAt(dirFd, name)
  return true
}

function removeDirectory(dirFd: number, name: Buffer): boolean {
  try {
    posix.rmdirAt(dirFd, name)
    return true
  } catch (error) {
    const code = posix.errnoCode(error)
    if (code === 'ENOTEMPTY' || code === 'EEXIST') return false
    throw error
  }
}

/** What `delete` cannot be asked for with. @throws KithError usage */
export async function refuseDelete(source: TreeSource, entry: Entry, overwrite: Overwrite): Promise<void> {
  if (entry.type !== 'directory')
    throw new KithError('usage', '--delete is for a directory, and this is a single file')
  if (overwrite === 'never')
    throw new KithError(
      'usage',
      '--delete goes with --overwrite if-changed or always: say what becomes of files that are there',
    )
  if ((await source.list(entry, undefined, 1)).length === 0)
    throw new KithError('usage', 'the snapshot has nothing there: --delete would empty the target')
}

/** What patterns cannot be given with. @throws KithError usage */
export function refusePatterns(
  options: Pick<RestoreOptions, 'delete'>,
  entry: Entry,
): asserts entry is DirectoryEntry {
  if (entry.type !== 'directory')
    throw new KithError('usage', 'patterns choose from a directory, and this is a single file')
  if (options.delete)
    throw new KithError(
      'usage',
      '--delete would remove what the patterns leave out: restore a part by its path, SNAPSHOT:PATH',
    )
}
