/**
 * What rules leave out of snapshots, where a snapshot meets a live directory. A name that rules leave out was never in a
 * snapshot, so that its absence from one says nothing. Which rules held when the snapshot was taken and which hold now
 * may differ: here a name counts as left out when any of them says so, those of the live directories or those that the
 * snapshot itself holds in its .kithignore files.
 */
import type { DirectoryEntry, Entry } from '../format/entry.js'
import type { FileStat } from '../base/posix.js'
import {
  cacheTagName,
  isCacheTag,
  maxRulesBytes,
  type OwnRules,
  readOwnRules,
  type RuledDirectory,
  rulesName,
} from '../store/rules.js'
import type { TreeReader } from '../store/tree-reader.js'

/** Makes the rules of a directory from what it adds to them itself. */
export type RulesFrom = (own: OwnRules) => RuledDirectory

export interface LeftOutOptions {
  /** of the directory where both begin; several where what is restored lies in another volume */
  rules: readonly RulesFrom[]
  /** whether a CACHEDIR.TAG counts */
  caches: boolean
  /** where the snapshot's own rules are read; without it only those of the live directories count */
  reader?: SavedRules
}

/** The rules that hold for the names in one directory. */
export class LeftOut {
  private constructor(
    private readonly reader: SavedRules | undefined,
    private readonly now: readonly RuledDirectory[],
    private readonly then: readonly RuledDirectory[],
    private readonly caches: boolean,
  ) {}

  /**
   * @param fd of the live directory
   * @param saved the same in the snapshot
   */
  static async root(
    { rules, caches, reader }: LeftOutOptions,
    fd: number,
    saved: DirectoryEntry,
  ): Promise<LeftOut> {
    const own = readOwnRules(fd, caches)
    const kept = reader && (await ownRulesOf(reader, saved, caches))
    return new LeftOut(
      reader,
      rules.map((from) => from(own)),
      kept ? rules.map((from) => from(kept)) : [],
      caches,
    )
  }

  /** Of the directory `name` in this one, which `fd` is open on. */
  async child(name: Buffer, fd: number, saved: DirectoryEntry | undefined): Promise<LeftOut> {
    const own = readOwnRules(fd, this.caches)
    const kept = this.reader && saved ? await ownRulesOf(this.reader, saved, this.caches) : noRules
    return new LeftOut(
      this.reader,
      this.now.map((ruled) => ruled.child(name, own)),
      this.then.map((ruled) => ruled.child(name, kept)),
      this.caches,
    )
  }

  has(name: Buffer, stat: FileStat): boolean {
    return [...this.now, ...this.then].some((ruled) => ruled.leavesOut(name, stat) !== undefined)
  }
}

export type SavedRules = Pick<TreeReader, 'lookup' | 'read'>

const noRules: OwnRules = { text: undefined, cache: false, problem: undefined }

/** What a directory of a snapshot adds to the rules. */
export async function ownRulesOf(reader: SavedRules, directory: Entry, caches: boolean): Promise<OwnRules> {
  if (directory.type !== 'directory') return noRules
  const file = await reader.lookup(directory, rulesName)
  const text =
    file?.type === 'file' && file.size <= maxRulesBytes ? await reader.read(file, 0, file.size) : undefined
  const tag = caches ? await reader.lookup(directory, cacheTagName) : undefined
  const cache = tag?.type === 'file' && isCacheTag(await reader.read(tag, 0, 64))
  return { text, cache, problem: undefined }
}
