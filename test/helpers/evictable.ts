/** Blocks that look like sealed ones, so that a store can tell chunks from nodes: every fifth is a node. */
import { seeded } from '../../lib/base/random.js'
import { blockName } from '../../lib/format/seal.js'
import { seededBytes } from './bytes.js'

export function evictable(n: number): { name: Buffer; bytes: Buffer } {
  const bytes = seededBytes(seeded(n), 2000 + ((n * 7919) % 60_000))
  bytes[0] = 1
  bytes[1] = n % 5 === 4 ? 2 : 1
  return { name: blockName(bytes), bytes }
}

export const isNode = (n: number) => n % 5 === 4
