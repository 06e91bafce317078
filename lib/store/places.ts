/**
 * Where directories and files stand after a snapshot, gathered while it walks: what the tables `directories` and
 * `files` (state.ts) will have to say. What was removed from one place may have moved to another, so removals are
 * settled at the end, when all places are known.
 */
import type { Entry } from '../format/node.js'
import type { NodeRef } from '../format/seal.js'
import { clean, type Dirty } from './dirty.js'
import type { Nodes } from './nodes.js'
import type { DirectoryRow, Location, VolumeState } from './state.js'
import { walkLeaves } from './tree-walk.js'

/** What a snapshot changes in the tables, beside the head. */
export interface StateChanges {
  directories: Map<bigint, DirectoryRow>
  goneDirectories: bigint[]
  /** All names of a file; none: it is gone. */
  files: Map<bigint, Location[]>
  /** What the next snapshot must look at again, since this one could not take it as it should be. */
  again: Map<bigint, Dirty>
}

export class Places {
  private readonly directories = new Map<bigint, DirectoryRow>()
  private readonly goneDirectories = new Set<bigint>()
  private readonly removedDirectories: { ino: bigint; node: NodeRef }[] = []
  private readonly added = new Map<bigint, Location[]>()
  private readonly lost = new Map<bigint, Location[]>()
  private readonly retries = new Map<bigint, Dirty>()

  constructor(private readonly state: VolumeState) {}

  addDirectory(ino: bigint, row: DirectoryRow): void {
    this.directories.set(ino, row)
  }

  addFile(ino: bigint, parent: bigint, name: Buffer): void {
    append(this.added, ino, { parent, name })
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
      const now = this.directories.get(ino)
      // A new directory may have taken the inode number of the one that went.
      if (now && now.btimeNs === this.state.directories.get(ino)?.btimeNs) continue
      this.goneDirectories.add(ino)
      for await (const leaf of walkLeaves(nodes, node)) for (const entry of leaf) this.removed(entry, ino)
    }
  }

  changes(): StateChanges {
    const files = new Map<bigint, Location[]>()
    for (const ino of new Set([...this.added.keys(), ...this.lost.keys()])) {
      const lost = this.lost.get(ino) ?? []
      const now = (this.state.files.get(ino) ?? []).filter((place) => !includes(lost, place))
      for (const place of this.added.get(ino) ?? []) if (!includes(now, place)) now.push(place)
      files.set(ino, now)
    }
    const { directories, retries: again } = this
    const goneDirectories = [...this.goneDirectories].filter((ino) => !directories.has(ino))
    return { directories, goneDirectories, files, again }
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
