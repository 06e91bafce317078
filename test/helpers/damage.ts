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

interface Place {
  file: string
  offset: number
}

/** Where records begin, by the names of their blocks in hex: a rewritten one may lie in several places. */
export function recordsIn(storeDir: string): Map<string, Place[]> {
  const dir = join(storeDir, 'segments')
  const found = new Map<string, Place[]>()
  for (const file of readdirSync(dir).map((entry) => join(dir, entry))) {
    const bytes = readFileSync(file)
    for (let at = bytes.indexOf('KBLK'); at >= 0; at = bytes.indexOf('KBLK', at + 1)) {
      const name = bytes.toString('hex', at + 4, at + 36)
      found.set(name, [...(found.get(name) ?? []), { file, offset: at }])
    }
  }
  return found
}

export function recordsOf(storeDir: string, name: Buffer): Place[] {
  return recordsIn(storeDir).get(name.toString('hex')) ?? []
}

/** Flips a bit in the data of a block, or in its header. */
export function damageBlock(storeDir: string, name: Buffer, where: 'data' | 'header' = 'data'): void {
  const records = recordsOf(storeDir, name)
  if (records.length === 0) throw new Error('no such block')
  for (const { file, offset } of records) flipBit(file, offset + (where === 'data' ? 40 + 17 : 2))
}
