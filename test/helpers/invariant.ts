/** Files that a writer keeps an invariant in (store/invariant-child.ts), and what a copy of one shows. */
export const invariantFiles = [
  { name: 'small', blocks: 12 },
  { name: 'middle', blocks: 300 },
  { name: 'large', blocks: 3000 },
]

export const numberedBytes = 4096

export function numbersBlock(round: number): Buffer {
  const block = Buffer.alloc(numberedBytes)
  for (let at = 0; at < block.length; at += 4) block.writeUInt32LE(round, at)
  return block
}

/** The numbers of the first and the last block; undefined where the file is of more than one instant. */
export function instantOf(bytes: Buffer): { first: number; last: number } | undefined {
  const first = bytes.readUInt32LE(0)
  let before = first
  for (let at = 4; at < bytes.length; at += 4) {
    const number = bytes.readUInt32LE(at)
    // Within a block a single write call is at work, of which a reader may see a part.
    if (number > before || number < first - 1) return undefined
    before = number
  }
  return { first, last: before }
}
