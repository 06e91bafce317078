/**
 * Where directories and files stand after a snapshot, gathered while it walks: what the tables `directories` and
 * `files` (state.ts) will have to say. What was removed from one place may have moved to another, so removals are
 * settled at the end, when all places are known.
 *
 * New places may be written before that (write()), together with the nodes they speak of: a large first backup needs
 * not hold them all. After a crash they are ahead of the head, which does no harm: what led to them is still dirty, and
 * is compared again, now with what is there already.
 */
import { KithError } from '../base/errors.js'
import type { Entry } from '../format/node.js'
import type { NodeRef } from '../format/seal.js'
import { afterSnapshot, clean, type Dirty } from './dirty.js'
import { forgetRules } from './exclusions.js'
import type { Nodes } from './nodes.js'
import type { DirectoryRow, Location, VolumeState } from './state.js'
import { walkLeaves } from './tree-walk.js'

/** What a snapshot changes in the tables, beside the head. */
export interface StateChanges {
  goneDirectories: bigint[]
  /** Names that files no longer have. */
  lost: Map<bigint, Location[]>
  /** What the next snapshot must look at again, since this one could not take it as it should be. */
  again: Map<bigint, Dirty>
}

export class Places {
  private directories = new Map<bigint, DirectoryRow>()
  private added = new Map<bigint, Location[]>()
  /** All directories that have a place; true where the inode number was another directory's before. */
  private readonly placed = new Map<bigint, boolean>()
  private readonly goneDirectories = new Set<bigint>()
  private readonly removedDirectories: { ino: bigint; node: NodeRef }[] = []
  private readonly lost = new Map<bigint, Location[]>()
  private readonly retries = new Map<bigint, Dirty>()

  constructor(private readonly state: VolumeState) {}

  /** Places not written yet. */
  get size(): number {
    return this.directories.size + this.added.size
  }

  /** @param known gives the row that the table has, or had when the snapshot began */
  addDirectory(ino: bigint, row: DirectoryRow, known: () => DirectoryRow | undefined): void {
    const before = this.directories.get(ino) ?? known()
    const another = before !== undefined && before.btimeNs !== row.btimeNs
    this.placed.set(ino, another || this.placed.get(ino) === true)
    this.directories.set(ino, row)
  }

  addFile(ino: bigint, parent: bigint, name: Buffer): void {
    append(this.added, ino, { parent, name })
  }

  /** Takes the places gathered so far; what is returned writes them, inside a transaction. */
  write(): () => void {
    const { directories, added } = this
    this.directories = new Map()
    this.added = new Map()
    return () => {
      for (const [ino, row] of directories) this.state.directories.put(ino, row)
      for (const [ino, places] of added) {
        const now = this.state.files.get(ino) ?? []
        const before = now.length
        for (const place of places) if (!includes(now, place)) now.push(place)
        // A row that is put is a page to be written, and rows of the files that changed lie all over the index.
        if (now.length > before) this.state.files.put(ino, now)
      }
    }
  }

  /** The entry no longer stands in `parent`. */
  removed(entry: Entry, parent: bigint): void {
    if (entry.type === 'directory') this.removedDirectories.push({ ino: entry.ino, node: entry.node })
    else append(this.lost, entry.ino, { parent, name: entry.name })
  }

  again(ino: bigint, what: 'whole' | 'names'): void {
    const row = this.retries.get(ino) ?? clean()
    row[what] = true
    this.retries.set(ino, row)
  }

  /** Follows removed directories down: what is below went with them, unless it was found elsewhere. */
  async forgetRemoved(nodes: Nodes): Promise<void> {
    for (let next = this.removedDirectories.pop(); next; next = this.removedDirectories.pop()) {
      const { ino, node } = next
      if (this.goneDirectories.has(ino)) continue
      // A new directory may have taken the inode number of the one that went.
      if (this.placed.get(ino) === false) continue
      this.goneDirectories.add(ino)
      try {
        for await (const leaf of walkLeaves(nodes, node)) for (const entry of leaf) this.removed(entry, ino)
      } catch (error) {
        // A damaged list of what is gone must not stop backups; rows of what was below say nothing wrong that counts.
        if (!(error instanceof KithError) || error.code !== 'damaged') throw error
      }
    }
  }

  changes(): StateChanges {
    const goneDirectories = [...this.goneDirectories].filter((ino) => !this.placed.has(ino))
    return { goneDirectories, lost: this.lost, again: this.retries }
  }
}

/** Inside a transaction, before the places of the same snapshot that are still to be written. */
export function forget(state: VolumeState, { goneDirectories, lost }: StateChanges): void {
  for (const ino of goneDirectories) state.directories.remove(ino)
  forgetRules(state, goneDirectories)
  for (const [ino, places] of lost) {
    const left = (state.files.get(ino) ?? []).filter((place) => !includes(places, place))
    if (left.length > 0) state.files.put(ino, left)
    else state.files.remove(ino)
  }
}

/**
 * Inside a transaction: dirty rows that no change touched since the snapshot took them in go.
 * @param told those of `taken` that were not in the table as they are there, but with what the log told besides: each has
 *   the generation of the row that it was made of, 0 where there was none
 */
export function settleTaken(
  { files, dirty }: VolumeState,
  taken: ReadonlyMap<bigint, Dirty>,
  told: ReadonlyMap<bigint, Dirty>,
): void {
  for (const [ino, row] of taken) {
    const now = dirty.get(ino)
    if ((now?.generation ?? 0) === row.generation) {
      const left = afterSnapshot(row)
      if (left && files.has(ino)) dirty.put(ino, left)
      else if (now) dirty.remove(ino)
    } else if (now && told.has(ino) && now.open !== row.open) {
      // Another wrote it anew without knowing what was told: whether it is watched is not forgotten.
      dirty.put(ino, { ...now, open: row.open })
    }
  }
}

/** Inside a transaction: what the snapshot could not take as it should be is dirty. */
export function lookAgain(
  { dirty }: VolumeState,
  { again }: StateChanges,
  nextGeneration: () => number,
): void {
  for (const [ino, row] of again) {
    const now = dirty.get(ino) ?? clean()
    const generation = nextGeneration()
    dirty.put(ino, { ...now, whole: now.whole || row.whole, names: now.names || row.names, generation })
  }
}

function append(map: Map<bigint, Location[]>, ino: bigint, place: Location): void {
  const places = map.get(ino)
  if (places) places.push(place)
  else map.set(ino, [place])
}

function includes(places: readonly Location[], { parent, name }: Location): boolean {
  return places.some((place) => place.parent === parent && place.name.equals(name))
}
