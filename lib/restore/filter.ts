/**
 * A tree without what a restore is to leave out, by patterns as in .gitignore: a pattern with a slash inside is taken from
 * the restored directory on, one without matches names at any depth, `!` takes back what an earlier one said.
 *
 * With `include`, only what matches is there, with all that is below it and the directories on the way; a directory that
 * nothing below would come of is left out. What `exclude` matches is not there in any case.
 */
import { isText, nameText } from '../base/path-text.js'
import { Patterns } from '../base/patterns.js'
import type { DirectoryEntry, Entry } from '../format/entry.js'
import type { TreeSource } from './types.js'

const pageEntries = 256

export interface Filter {
  include: readonly string[]
  exclude: readonly string[]
}

/** Where a directory stands, and whether all below it was asked for. */
interface Standing {
  path: string
  included: boolean
}

export class FilteredSource implements TreeSource {
  /** The root to restore from this source; how much is in it is not known. */
  readonly root: DirectoryEntry
  readonly #source: TreeSource
  readonly #include: Patterns
  readonly #exclude: Patterns
  readonly #standing = new WeakMap<Entry, Standing>()

  constructor(source: TreeSource, root: DirectoryEntry, { include, exclude }: Filter) {
    this.#source = source
    this.#include = new Patterns(include)
    this.#exclude = new Patterns(exclude)
    this.root = { ...root, totals: { files: 0, bytes: 0, busy: 0 } }
    this.#standing.set(this.root, { path: '', included: include.length === 0 })
  }

  pieces: TreeSource['pieces'] = (file, from, to) => this.#source.pieces(file, from, to)
  chunk: TreeSource['chunk'] = (ref) => this.#source.chunk(ref)

  async list(directory: Entry, after?: Buffer, limit = Infinity): Promise<Entry[]> {
    const standing = this.#standing.get(directory)
    if (!standing) return this.#source.list(directory, after, limit)
    const found: Entry[] = []
    for (let last = after; ;) {
      const page = await this.#source.list(directory, last, pageEntries)
      for (const entry of page) {
        const kept = await this.#keep(standing, entry)
        if (kept) found.push(kept)
        if (found.length >= limit) return found
      }
      if (page.length < pageEntries) return found
      last = page.at(-1)?.name
    }
  }

  /** The entry, if it is to come. A directory as a copy: one record may stand in several places of a tree. */
  async #keep(above: Standing, entry: Entry): Promise<Entry | undefined> {
    const name = isText(entry.name) ? entry.name.toString() : nameText(entry.name)
    const path = above.path + name + (entry.type === 'directory' ? '/' : '')
    if (this.#exclude.matches(path)) return undefined
    const included = above.included || this.#include.matches(path)
    if (entry.type !== 'directory') return included ? entry : undefined
    const copy = { ...entry }
    this.#standing.set(copy, { path, included })
    if (included || (await this.list(copy, undefined, 1)).length > 0) return copy
    return undefined
  }
}
