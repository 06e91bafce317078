/**
 * Keeps the blocks here within a budget: what enough partners hold goes, the least recently used first.
 *
 * What goes is chosen by segment and not by block: the segment read least recently gives up all of its chunks that are
 * safe, and what is left of it (nodes, and what is not yet sent) is copied together if that is less than half. So the
 * space is back at once, at the price of little copying, and the order needs one number a segment and none a block.
 * A segment that would keep more than half is passed over: it is not rewritten for so little (BlockStore.compact).
 *
 * Never evicted: what too few partners hold, which is asked for each block again inside the transaction; nodes, without
 * which neither a snapshot nor a look into one would do; what is damaged.
 *
 * Crash argument: see BlockStore.evict. A block that is evicted is still known by its name, so that a snapshot may refer to
 * it (intake.ts says when) and a prune of it is told to partners as of any other.
 */
import { setImmediate } from 'node:timers/promises'
import type { BlockStore } from '../blocks/block-store.js'
import type { Sum } from '../blocks/segment-rows.js'
import { headerBytes } from '../blocks/segments.js'

export interface EvictOptions {
  /** Bytes on disk to come down to. */
  target: number
  /** Whether enough partners hold the block. */
  isSafe: (sequence: number, name: Buffer) => boolean
  signal?: AbortSignal
}

export interface Evicted extends Sum {
  /** Given back to the disk. */
  bytesFreed: number
}

export async function evict(blocks: BlockStore, { target, isSafe, signal }: EvictOptions): Promise<Evicted> {
  const done: Evicted = { blocks: 0, bytes: 0, bytesFreed: 0 }
  await blocks.commit() // what was fetched may go, too
  for (const { segment, length } of blocks.leastUsed()) {
    if (signal?.aborted || blocks.bytesOnDisk <= target) break
    const inside = await blocks.blocksIn(segment)
    const safe = inside.filter(({ kind, sequence, name }) => kind === 'chunk' && isSafe(sequence, name))
    if (safe.length > 0 && (recorded(inside) - recorded(safe)) * 2 <= length) {
      const names = safe.map(({ name }) => name)
      const sum = await blocks.evict(names, isSafe)
      done.blocks += sum.blocks
      done.bytes += sum.bytes
      done.bytesFreed += (await blocks.compact(segment)).freed
    }
    await setImmediate()
  }
  return done
}

/** What blocks take in their segment. */
function recorded(blocks: readonly { bytes: number }[]): number {
  return blocks.reduce((sum, { bytes }) => sum + headerBytes + bytes, 0)
}
