/** Damage done to stored records, as bad disks do it. */
import { closeSync, openSync, readFileSync, readSync, readdirSync, writeSync } from 'node:fs'
import { join } from 'node:path'

/** Flips one bit of a file. */
export function flipBit(file: string, offset: number, bit = 0): void {
  const fd = openSync(file, 'r+')
  try {
    const byte = Buffer.alloc(1)
    readSync(fd, byte, 0, 1, offset)
    byte.writeUInt8(byte.readUInt8(0) ^ (1 << bit))
    writeSync(fd, byte, 0, 1, offset)
  } finally {
    closeSync(fd)
  }
}

/** Where the record of a block begins: every place, since a rewritten one may lie in several. */
export function recordsOf(storeDir: string, name: Buffer): { file: string; offset: number }[] {
  const dir = join(storeDir, 'segments')
  const found: { file: string; offset: number }[] = []
  const wanted = Buffer.concat([Buffer.from('KBLK'), name])
  for (const file of readdirSync(dir).map((entry) => join(dir, entry))) {
    const bytes = readFileSync(file)
    for (let at = bytes.indexOf(wanted); at >= 0; at = bytes.indexOf(wanted, at + 1))
      found.push({ file, offset: at })
  }
  return found
}

/** Flips a bit in the data of a block, or in its header. */
export function damageBlock(storeDir: string, name: Buffer, where: 'data' | 'header' = 'data'): void {
  const records = recordsOf(storeDir, name)
  if (records.length === 0) throw new Error('no such block')
  for (const { file, offset } of records) flipBit(file, offset + (where === 'data' ? 40 + 17 : 2))
}
