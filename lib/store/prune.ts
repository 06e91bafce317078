/**
 * Prune: frees the blocks that no snapshot needs any more. Mark and sweep, and no reference counts: those would cost every
 * snapshot a write for each of the hundred children of every node that it rewrites, while marking a million files takes
 * half a minute of one core (30 us a file, measured at 40,000), once a day at most, and a crash leaves nothing wrong.
 *
 *   1. bound     the newest sequence number: what comes into the store from here on is not swept by this run
 *   2. mark      everything that is in use (marks.ts), beside snapshots and restores that go on meanwhile
 *   3. sweep     in batches; before each, with no snapshot under way, what came into use since the last look is marked
 *                too. One transaction takes a batch out of the index and puts its names on the list for partners
 *                (removed.ts). Rows of the chunk index that name what is gone follow
 *   4. compact   segments that are half dead are copied together and deleted, one at a time (blocks/block-store.ts)
 *
 * In use is: every snapshot of the newest list, and the list itself; every directory that the tables hold as the state
 * from which the next snapshot goes on, also when its own snapshot was forgotten or never completed; what was read ahead
 * of the next snapshot; and what a running restore has open.
 *
 * Beside a snapshot: it may find in the index, and use again, a block that no snapshot named when the marking began. Its
 * tables and its record are committed in the volume's turn, and a batch is swept in a turn of its own, after marking anew
 * when there was any turn since. So a block is removed only while nothing names it, and whoever looks for it later does
 * not find it, and stores it again under a new sequence number.
 *
 * Crash argument: a batch is one transaction, and none of its blocks was in use; until it, nothing changed. A chunk row
 * whose block is gone counts for nothing (intake.ts). Copying a segment: see block-store.ts.
 */
import type { BlockReader, BlockStore } from '../blocks/block-store.js'
import { KithError } from '../base/errors.js'
import type { VolumeKeys } from '../format/keys.js'
import { Marker, Marks } from './marks.js'
import type { Volume } from './volume.js'

export interface PruneOptions {
  /** Only tells what would go. */
  dryRun?: boolean
  /** Where nodes come from that are not here. */
  remote?: BlockReader
  /** Bytes to be copied for compaction in this run; unbounded unless given. */
  compactBytes?: number
  signal?: AbortSignal
  progress?: (stage: 'mark' | 'sweep' | 'compact', done: number, total: number) => void
}

export interface PruneResult {
  /** What no snapshot needs, and is gone now (or would be). */
  blocks: number
  bytes: number
  /** What stays, here or only with partners. */
  blocksKept: number
  bytesKept: number
  /** Given back to the disk. */
  bytesFreed: number
}

/** What a prune needs of its store. */
export interface Prunable {
  readonly blocks: BlockStore
  volumes(): Volume[]
  /** Inside a transaction: puts the names on the list of removed blocks. */
  noteRemoved(names: readonly Buffer[]): void
}

const batchBlocks = 2000
const scanRows = 2000

interface Marked {
  volume: Volume
  marker: Marker
  /** Turns of the volume when it was last looked at. */
  turns: number
}

export class Prune {
  private readonly marks = new Marks()
  private readonly marked: Marked[]
  private readonly bound: number

  constructor(
    private readonly store: Prunable,
    private readonly options: PruneOptions,
  ) {
    this.bound = store.blocks.lastSequence
    this.marked = store.volumes().map((volume) => {
      const reader = options.remote ? volume.adopting(options.remote) : store.blocks
      const { node }: VolumeKeys = volume.keys
      return { volume, marker: new Marker(store.blocks, reader, node, this.marks, options.signal), turns: -1 }
    })
  }

  async run(): Promise<PruneResult> {
    const { blocks } = this.store
    for (const one of this.marked) await this.mark(one)
    const result = { blocks: 0, bytes: 0, blocksKept: 0, bytesKept: 0, bytesFreed: 0 }
    for (let after = 0; after < this.bound;) {
      const { names, bytes, last } = this.scan(after)
      after = last
      this.options.progress?.('sweep', Math.min(after, this.bound), this.bound)
      const swept = this.options.dryRun ? { blocks: names.length, bytes } : await this.sweep(names)
      result.blocks += swept.blocks
      result.bytes += swept.bytes
      await pause()
    }
    if (!this.options.dryRun) {
      for (const { volume, marker } of this.marked) {
        if (result.blocks > 0) await volume.swept(marker)
      }
      result.bytesFreed = await this.compact()
    }
    const { evicted } = blocks
    result.blocksKept = blocks.count + evicted.blocks - (this.options.dryRun ? result.blocks : 0)
    result.bytesKept = blocks.bytes + evicted.bytes - (this.options.dryRun ? result.bytes : 0)
    return result
  }

  private async mark(one: Marked): Promise<void> {
    const { volume, marker } = one
    if (one.turns === volume.turns) return
    const { turns } = volume
    await volume.markAll(marker)
    one.turns = turns
    this.options.progress?.('mark', marker.blocks, 0)
  }

  /** Unmarked blocks after a sequence number, and how far that goes. */
  private scan(after: number): { names: Buffer[]; bytes: number; last: number } {
    const names: Buffer[] = []
    let bytes = 0
    let last = after
    while (names.length < batchBlocks && last < this.bound) {
      const rows = this.store.blocks.since(last, scanRows)
      for (const row of rows) {
        if (row.sequence > this.bound || this.marks.has(row.sequence)) continue
        names.push(row.name)
        bytes += row.bytes
      }
      last = rows.at(-1)?.sequence ?? this.bound
      if (this.options.signal?.aborted) throw new KithError('cancelled', 'cancelled')
      if (names.length === 0) break
    }
    return { names, bytes, last }
  }

  /** Removes those of the blocks that are still not in use. */
  private async sweep(names: readonly Buffer[]): Promise<{ blocks: number; bytes: number }> {
    if (names.length === 0) return { blocks: 0, bytes: 0 }
    const { blocks } = this.store
    return this.still(async () => {
      for (const one of this.marked) await this.mark(one)
      const gone = names.flatMap((name) => {
        const sequence = blocks.sequence(name)
        const unused = sequence !== undefined && sequence <= this.bound && !this.marks.has(sequence)
        return unused ? { name, bytes: blocks.size(name) ?? 0 } : []
      })
      const dead = gone.map(({ name }) => name)
      await blocks.takeOut(dead, () => this.store.noteRemoved(dead))
      return { blocks: gone.length, bytes: gone.reduce((sum, { bytes }) => sum + bytes, 0) }
    })
  }

  /** Runs while no volume takes a snapshot or changes its list. */
  private still<T>(work: () => Promise<T>): Promise<T> {
    const within = (at: number): Promise<T> => {
      const one = this.marked[at]
      return one ? one.volume.still(() => within(at + 1)) : work()
    }
    const now = this.store.volumes()
    if (now.length !== this.marked.length || this.marked.some(({ volume }) => !now.includes(volume))) {
      throw new KithError('busy', 'a volume came or went meanwhile: prune again')
    }
    return within(0)
  }

  private async compact(): Promise<number> {
    const { blocks } = this.store
    let left = this.options.compactBytes ?? Infinity
    let freed = 0
    for (const segment of [...blocks.sparse]) {
      if (left <= 0 || this.options.signal?.aborted) break
      const done = await blocks.compact(segment)
      left -= done.copied
      freed += done.freed
      this.options.progress?.('compact', freed, 0)
    }
    return freed
  }
}

/** Lets everything else have a turn. */
function pause(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
