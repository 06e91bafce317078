/**
 * How soon audits find out a partner that lost something. Pure.
 *
 * An audit draws each block with the same chance, by a coin that nobody foresees (format/coin.ts), and draws of different audits do
 * not depend on each other. So who lost `L` of `N` blocks passes one audit with (1 - 64 / N)^L, and never one that asks for all of
 * them. To hang up helps nobody: the draw stays, and what is not answered at the fifth time counts as missing (coin-audit.ts).
 */
import { drawnBlocks, maxDrawn } from '../format/coin.js'

/** Audits that catch who lost this part (0..1) of `blocks` with this confidence (0..1). */
export function auditsUntilCaught(blocks: number, lost: number, confidence: number): number {
  if (blocks <= maxDrawn) return 1
  const count = Math.max(1, Math.floor(blocks * lost))
  const passes = count * Math.log1p(-drawnBlocks / blocks)
  return Math.max(1, Math.ceil(Math.log1p(-confidence) / passes))
}

/** Ms from the loss on, at most, while the partner is on line once in each interval. */
export function caughtWithin(
  { blocks, lost, confidence }: { blocks: number; lost: number; confidence: number },
  intervalMs: number,
): number {
  return auditsUntilCaught(blocks, lost, confidence) * intervalMs
}
