/** What audits ask of a block store: names in a window, and how many blocks there are up to a sequence number. */
import type { BlockStore } from './block-store.js'

/** Committed blocks whose names begin from `start` on and before `end` (without it: to the last), in order. */
export function blocksWithin(
  blocks: BlockStore,
  range: { start: Buffer; end?: Buffer },
  limit: number,
): { sequence: number; name: Buffer }[] {
  const found: { sequence: number; name: Buffer }[] = []
  if (limit <= 0) return found
  for (const name of blocks.names(range.start)) {
    if (range.end && Buffer.compare(name, range.end) >= 0) break
    const sequence = blocks.sequence(name)
    if (sequence !== undefined) found.push({ sequence, name: Buffer.from(name) })
    if (found.length >= limit) break
  }
  return found
}

/** How many blocks there are up to `sequence`: exact where none was removed, else as if the gaps were even. */
export function countTo(blocks: BlockStore, sequence: number): number {
  const share = blocks.lastSequence === 0 ? 0 : Math.min(1, sequence / blocks.lastSequence)
  return Math.ceil((blocks.count + blocks.evicted.blocks) * share)
}
