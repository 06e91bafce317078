/**
 * The vault's own tables, beside those of its block store in the same LMDB environment. They say who has an interest
 * in which block; the bytes are the block store's matter.
 *
 *     interest   name 32 | owner 32 -> u32 sealed bytes. The owners of one block stand together: is the set empty?
 *     owned      owner 32 | name 32 -> u32 sealed bytes. The blocks of one owner stand together
 *     owners     owner 32 -> [0..8) bytes u64 [8..16) blocks u64 [16..24) number of the last release u64
 *                [24..32) first seen, ms since 1970 u64 [32..40) bytes and [40..48) blocks u64 of drops that are
 *                held back. Stays when all is released: the number refuses replays
 *     drops      due, ms since 1970 u64 big endian | owner 32 | name 32 -> 1: drops held back, in the order of their time
 *     dropping   owner 32 | name 32 -> due u64 big endian
 *     heads      owner 32 | volume 16 -> the signed head
 *     parting    owner 32 | volume 16 -> due, ms since 1970 u64: heads that were released, held back like drops
 *     secrets    `coin` -> 32 random bytes: the holder's part of coin flips (format/coin.ts), and of the vault's
 *                generation (format/wire.ts)
 *
 * `interest` and `owned` are each other's mirror and `owners` their sum, `drops` and `dropping` mirror each other, and only
 * blocks in `owned` are in them: all change in one transaction.
 */
import { decodeHead } from '../format/head.js'
import { type Database, encodings, type Encoding, type Table } from '../blocks/database.js'

export interface OwnerRow {
  bytes: number
  blocks: number
  releaseNumber: number
  since: number
  /** Of bytes and blocks: those whose drop is held back. */
  droppingBytes: number
  droppingBlocks: number
}

const sizeEncoding: Encoding<number> = {
  encode(value) {
    const bytes = Buffer.allocUnsafe(4)
    bytes.writeUInt32LE(value)
    return bytes
  },
  decode: (bytes) => bytes.readUInt32LE(0),
}

const ownerEncoding: Encoding<OwnerRow> = {
  encode(row) {
    const bytes = Buffer.allocUnsafe(48)
    const values = [
      row.bytes,
      row.blocks,
      row.releaseNumber,
      row.since,
      row.droppingBytes,
      row.droppingBlocks,
    ]
    values.forEach((value, i) => bytes.writeBigUInt64LE(BigInt(value), i * 8))
    return bytes
  },
  decode(bytes) {
    // Rows of the first version end before the drops.
    const at = (i: number) => (i * 8 < bytes.length ? Number(bytes.readBigUInt64LE(i * 8)) : 0)
    const row = { bytes: at(0), blocks: at(1), releaseNumber: at(2), since: at(3) }
    return { ...row, droppingBytes: at(4), droppingBlocks: at(5) }
  },
}

const key = (a: Buffer, b: Buffer) => Buffer.concat([a, b])
/** Every key that starts with `prefix`, which is shorter than the keys. */
const under = (prefix: Buffer) => ({ start: prefix, end: Buffer.concat([prefix, Buffer.alloc(40, 0xff)]) })

export const noOwner: OwnerRow = {
  bytes: 0,
  blocks: 0,
  releaseNumber: 0,
  since: 0,
  droppingBytes: 0,
  droppingBlocks: 0,
}

export class VaultTables {
  private readonly interest: Table<Buffer, number>
  private readonly owned: Table<Buffer, number>
  private readonly ownerRows: Table<Buffer, OwnerRow>
  private readonly headRows: Table<Buffer, Buffer>
  private readonly drops: Table<Buffer, number>
  private readonly dropping: Table<Buffer, number>
  private readonly parting: Table<Buffer, number>
  private readonly secrets: Table<string, Buffer>

  constructor(db: Database) {
    this.interest = db.table('interest', encodings.bytes, sizeEncoding)
    this.owned = db.table('owned', encodings.bytes, sizeEncoding)
    this.ownerRows = db.table('owners', encodings.bytes, ownerEncoding)
    this.headRows = db.table('heads', encodings.bytes, encodings.bytes)
    this.drops = db.table('drops', encodings.bytes, encodings.number)
    this.dropping = db.table('dropping', encodings.bytes, encodings.number)
    this.parting = db.table('parting', encodings.bytes, encodings.number)
    this.secrets = db.table('secrets', encodings.text, encodings.bytes)
  }

  owner(owner: Buffer): OwnerRow | undefined {
    return this.ownerRows.get(owner)
  }

  *owners(): Generator<{ owner: Buffer; row: OwnerRow }> {
    for (const { key: owner, value: row } of this.ownerRows.range()) yield { owner, row }
  }

  /** Sealed bytes of the block, when the owner has an interest in it. */
  size(owner: Buffer, name: Buffer): number | undefined {
    return this.owned.get(key(owner, name))
  }

  /** Whether a drop of the block is held back. */
  isDropping(owner: Buffer, name: Buffer): boolean {
    return this.dropping.has(key(owner, name))
  }

  /** Drops whose time has come. */
  due(now: number, limit: number): { owner: Buffer; name: Buffer }[] {
    const end = encodings.number.encode(now + 1)
    return [...this.drops.keysOf({ end, limit })].map((found) => {
      return { owner: Buffer.from(found.subarray(8, 40)), name: Buffer.from(found.subarray(40)) }
    })
  }

  wanted(name: Buffer): boolean {
    for (const _ of this.interest.keysOf({ ...under(name), limit: 1 })) return true
    return false
  }

  interested(name: Buffer): Buffer[] {
    return [...this.interest.keysOf(under(name))].map((found) => found.subarray(32))
  }

  /** @param after from the first, when it is not given */
  namesOf(owner: Buffer, limit: number, after?: Buffer): Buffer[] {
    const range = { ...under(owner), ...(after && { start: Buffer.concat([owner, after, Buffer.alloc(1)]) }) }
    return [...this.owned.keysOf({ ...range, limit })].map((found) => found.subarray(32))
  }

  /** Names in a window (format/coin.ts) that the owner counts on, in order. */
  namesWithin(owner: Buffer, range: { start: Buffer; end?: Buffer }, limit: number): Buffer[] {
    const end = range.end ? key(owner, range.end) : under(owner).end
    const found = this.owned.keysOf({ start: key(owner, range.start), end, limit })
    return [...found].map((one) => one.subarray(32)).filter((name) => !this.isDropping(owner, name))
  }

  coinSecret(): Buffer | undefined {
    const secret = this.secrets.get('coin')
    return secret && Buffer.from(secret)
  }

  heads(owner: Buffer): Buffer[] {
    return [...this.headRows.range(under(owner))].map(({ value }) => value)
  }

  head(owner: Buffer, volume: Buffer): Buffer | undefined {
    return this.headRows.get(key(owner, volume))
  }

  headCount(owner: Buffer): number {
    return [...this.headRows.keysOf(under(owner))].length
  }

  /** Whether the release of the head is held back. */
  isParting(owner: Buffer, volume: Buffer): boolean {
    return this.parting.has(key(owner, volume))
  }

  /** Volumes whose head was not released. */
  volumesOf(owner: Buffer): Buffer[] {
    const rows = [...this.headRows.keysOf(under(owner))].filter((row) => !this.parting.has(row))
    return rows.map((row) => Buffer.from(row.subarray(32)))
  }

  /** Whether the time of a released head has come. */
  hasDueHeads(now: number): boolean {
    for (const { value } of this.parting.range()) if (value <= now) return true
    return false
  }

  // What follows runs inside a transaction.

  putCoinSecret(secret: Buffer): void {
    this.secrets.put('coin', secret)
  }

  /** The owner's row, made when there is none. */
  private row(owner: Buffer, now: number): OwnerRow {
    return this.ownerRows.get(owner) ?? { ...noOwner, since: now }
  }

  /** @returns false when the owner had that interest already */
  add(owner: Buffer, name: Buffer, bytes: number, now: number): boolean {
    if (this.owned.has(key(owner, name))) return false
    this.owned.put(key(owner, name), bytes)
    this.interest.put(key(name, owner), bytes)
    const row = this.row(owner, now)
    this.ownerRows.put(owner, { ...row, bytes: row.bytes + bytes, blocks: row.blocks + 1 })
    return true
  }

  /** Holds a drop back until `due`. @returns the block's sealed bytes; undefined when there is nothing to drop */
  drop(owner: Buffer, name: Buffer, due: number): number | undefined {
    const bytes = this.owned.get(key(owner, name))
    const row = this.ownerRows.get(owner)
    if (bytes === undefined || row === undefined || this.isDropping(owner, name)) return undefined
    this.drops.put(Buffer.concat([encodings.number.encode(due), owner, name]), 1)
    this.dropping.put(key(owner, name), due)
    const { droppingBytes, droppingBlocks } = row
    const sums = { droppingBytes: droppingBytes + bytes, droppingBlocks: droppingBlocks + 1 }
    this.ownerRows.put(owner, { ...row, ...sums })
    return bytes
  }

  /** Calls a drop off, when one is held back. @returns the block's sealed bytes then */
  keep(owner: Buffer, name: Buffer): number | undefined {
    const due = this.dropping.get(key(owner, name))
    // As a rule: what else would be looked up is asked for in vain.
    if (due === undefined) return undefined
    const bytes = this.owned.get(key(owner, name))
    const row = this.ownerRows.get(owner)
    if (bytes === undefined || row === undefined) return undefined
    this.drops.remove(Buffer.concat([encodings.number.encode(due), owner, name]))
    this.dropping.remove(key(owner, name))
    const { droppingBytes, droppingBlocks } = row
    const sums = { droppingBytes: droppingBytes - bytes, droppingBlocks: droppingBlocks - 1 }
    this.ownerRows.put(owner, { ...row, ...sums })
    return bytes
  }

  /** @returns the block's sealed bytes; undefined when the owner had no interest in it */
  remove(owner: Buffer, name: Buffer): number | undefined {
    this.keep(owner, name)
    const bytes = this.owned.get(key(owner, name))
    const row = this.ownerRows.get(owner)
    if (bytes === undefined || row === undefined) return undefined
    this.owned.remove(key(owner, name))
    this.interest.remove(key(name, owner))
    this.ownerRows.put(owner, { ...row, bytes: row.bytes - bytes, blocks: row.blocks - 1 })
    return bytes
  }

  putHead(owner: Buffer, volume: Buffer, head: Buffer, now: number): void {
    this.ownerRows.put(owner, this.row(owner, now))
    this.headRows.put(key(owner, volume), head)
    this.parting.remove(key(owner, volume))
  }

  /** Holds the release of a head back until `due`; one that is held back already keeps its time. */
  partHead(owner: Buffer, volume: Buffer, due: number): void {
    const row = key(owner, volume)
    if (this.headRows.has(row) && !this.parting.has(row)) this.parting.put(row, due)
  }

  removeHead(owner: Buffer, volume: Buffer): void {
    this.headRows.remove(key(owner, volume))
    this.parting.remove(key(owner, volume))
  }

  removeDueHeads(now: number): void {
    for (const { key: row, value } of [...this.parting.range()])
      if (value <= now) this.removeHead(row.subarray(0, 32), row.subarray(32))
  }

  removeHeads(owner: Buffer): void {
    for (const table of [this.headRows, this.parting])
      for (const found of [...table.keysOf(under(owner))]) table.remove(found)
  }

  numbered(owner: Buffer, releaseNumber: number, now: number): void {
    this.ownerRows.put(owner, { ...this.row(owner, now), releaseNumber })
  }
}

/** Of a head held here; one that was changed on the disk gives way to any that verifies. */
export function sequenceOf(head: Buffer): number {
  try {
    return decodeHead(head).sequence
  } catch {
    return -1
  }
}
