/**
 * Elements of stripes that are on their way from a partner that is lost, or may be, to another one (mender.ts). Until the new one
 * acknowledged its shard, the stripe's own row, and so every page, names the old one: what is under way counts nowhere.
 *
 *     stripe moves    number u64 | number of the element u8 -> partner 32 | name of its shard 32
 */
import type { Database, Encoding, Table } from '../blocks/database.js'
import { encodings } from '../blocks/database.js'
import type { ShardAt } from '../format/stripe.js'

export interface Move {
  number: number
  index: number
  to: ShardAt
}

const shardEncoding: Encoding<ShardAt> = {
  encode: ({ partner, name }) => Buffer.concat([partner, name]),
  decode: (bytes) => ({
    partner: Buffer.from(bytes.subarray(0, 32)),
    name: Buffer.from(bytes.subarray(32, 64)),
  }),
}

function rowOf(number: number, index: number): Buffer {
  const row = Buffer.alloc(9)
  row.writeBigUInt64BE(BigInt(number), 0)
  row.writeUInt8(index, 8)
  return row
}

/** What changes it is called inside a transaction of stripes.ts, together with the rows that belong to it. */
export class Moves {
  private readonly rows: Table<Buffer, ShardAt>

  constructor(db: Database) {
    this.rows = db.table('stripe moves', encodings.bytes, shardEncoding)
  }

  get(number: number, index: number): ShardAt | undefined {
    return this.rows.get(rowOf(number, index))
  }

  list(): Move[] {
    return [...this.rows.range()].map(({ key, value }) => ({
      number: Number(key.readBigUInt64BE(0)),
      index: key.readUInt8(8),
      to: value,
    }))
  }

  /** Those of one stripe. */
  of(number: number): Move[] {
    const range = { start: rowOf(number, 0), end: rowOf(number + 1, 0) }
    return [...this.rows.range(range)].map(({ key, value }) => ({
      number,
      index: key.readUInt8(8),
      to: value,
    }))
  }

  put(number: number, index: number, to: ShardAt): void {
    this.rows.put(rowOf(number, index), to)
  }

  remove(number: number, index: number): void {
    this.rows.remove(rowOf(number, index))
  }

  clear(): void {
    this.rows.clear()
  }
}
