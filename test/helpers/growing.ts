/** Rows of an index that grows (blocks/map-child.ts). */
export const rowsOf = (round: number) => 40 * 2 ** Math.min(round, 8)

export function rowKey(round: number, i: number): Buffer {
  const key = Buffer.alloc(8)
  key.writeUInt32BE(round, 0)
  key.writeUInt32BE(i, 4)
  return key
}

export const rowOf = (round: number, i: number) => Buffer.alloc(1000, (round * 31 + i) % 251)
