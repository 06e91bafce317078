/**
 * What the owner knows about its backups at each partner, on disk: how far it has come, which heads were acknowledged, what
 * audits found, what must be sent again. The uploader and the auditor write it; status and sync read it.
 *
 *     progress   partner 32 -> [0] version = 1   [1] 1 when a full audit found all good since the last damage
 *                [2..4) found: bits by damageKinds, u16   [4..8) 0   [8..16) cursor u64: every block of the store up to this
 *                sequence number is acknowledged as durable   [16..24) bytes and [24..32) blocks that it says it holds u64
 *                [32..40) number of our last release u64   [40..48) last passed audit, [48..56) last audit, [56..64) last
 *                damage found: ms since 1970, 0 for never   [64..72) blocks found missing or wrong, [72..80) of those
 *                acknowledged again
 *     heads      partner 32 | volume 16 -> sequence number of the head it acknowledged, u64
 *     drops      partner 32 -> number of the last removal in the store that it was told of, u64 big endian
 *     vaults     partner 32 -> 16 bytes that name the vault it had (format/wire.ts), when it was last asked
 *     flips      partner 32 -> the coin flip (format/coin.ts) that is not answered yet: [0] version = 1   [1] bits
 *                [2..4) draws u16   [4] times that it was broken off after the reveal   [5] 1 when r2 is known   [6..8) 0
 *                [8..40) r1   [40..72) r2
 *     resend     partner 32 | block name 32 -> 1: found missing or wrong, to be offered again
 *     lacking    partner 32 | block name 32 -> 1: could not be sent when it was its turn, as its bytes were not to be had;
 *                the partner does not hold it, whatever the cursor says
 */
import { type Database, encodings, type Encoding, type Table } from '../blocks/database.js'
import { assert } from '../base/errors.js'
import type { Spread } from '../format/coin.js'
import type { Damage, Verdict } from './types.js'

export interface Progress {
  cursor: number
  /** by the partner's own count */
  bytesHeld: number
  blocksHeld: number
  releaseNumber: number
  /** ms since 1970; 0: never */
  lastProof: number
  lastAudit: number
  verdict: Verdict
}

/** A coin flip under way. It is finished before another is begun, whatever comes between. */
export interface OpenFlip {
  r1: Buffer
  spread: Spread
  /** Once the holder told it. */
  r2: Buffer | undefined
  /** The holder learned what is drawn, and did not answer: so often. */
  brokenOff: number
}

/** By bit number in `found`. */
const damageKinds: readonly Damage[] = ['missing', 'wrong', 'oldHead', 'badHead']

const none: Progress = {
  cursor: 0,
  bytesHeld: 0,
  blocksHeld: 0,
  releaseNumber: 0,
  lastProof: 0,
  lastAudit: 0,
  verdict: { state: 'unknown', found: [], blocks: 0, repaired: 0, at: 0 },
}

const progressEncoding: Encoding<Progress> = {
  encode(row) {
    const bytes = Buffer.alloc(80)
    const { verdict } = row
    bytes.writeUInt8(1, 0)
    bytes.writeUInt8(verdict.state === 'good' ? 1 : 0, 1)
    bytes.writeUInt16LE(
      verdict.found.reduce((bits, kind) => bits | (1 << damageKinds.indexOf(kind)), 0),
      2,
    )
    const values = [
      row.cursor,
      row.bytesHeld,
      row.blocksHeld,
      row.releaseNumber,
      row.lastProof,
      row.lastAudit,
    ]
    values.push(verdict.at, verdict.blocks, verdict.repaired)
    values.forEach((value, i) => bytes.writeBigUInt64LE(BigInt(value), 8 + 8 * i))
    return bytes
  },
  decode(bytes) {
    assert(bytes.length === 80 && bytes.readUInt8(0) === 1, 'progress rows have version 1')
    const at = (i: number) => Number(bytes.readBigUInt64LE(8 + 8 * i))
    const bits = bytes.readUInt16LE(2)
    const found = damageKinds.filter((_, i) => (bits & (1 << i)) !== 0)
    const state = found.length > 0 ? 'damaged' : bytes.readUInt8(1) === 1 ? 'good' : 'unknown'
    return {
      cursor: at(0),
      bytesHeld: at(1),
      blocksHeld: at(2),
      releaseNumber: at(3),
      lastProof: at(4),
      lastAudit: at(5),
      verdict: { state, found, at: at(6), blocks: at(7), repaired: at(8) },
    }
  },
}

const flipEncoding: Encoding<OpenFlip> = {
  encode({ r1, spread, r2, brokenOff }) {
    const bytes = Buffer.alloc(72)
    bytes.writeUInt8(1, 0)
    bytes.writeUInt8(spread.bits, 1)
    bytes.writeUInt16LE(spread.draws, 2)
    bytes.writeUInt8(Math.min(brokenOff, 255), 4)
    bytes.writeUInt8(r2 ? 1 : 0, 5)
    r1.copy(bytes, 8)
    r2?.copy(bytes, 40)
    return bytes
  },
  decode(bytes) {
    assert(bytes.length === 72 && bytes.readUInt8(0) === 1, 'rows of flips have version 1')
    return {
      r1: Buffer.from(bytes.subarray(8, 40)),
      spread: { bits: bytes.readUInt8(1), draws: bytes.readUInt16LE(2) },
      r2: bytes.readUInt8(5) === 1 ? Buffer.from(bytes.subarray(40, 72)) : undefined,
      brokenOff: bytes.readUInt8(4),
    }
  },
}

const key = (a: Buffer, b: Buffer) => Buffer.concat([a, b])
const under = (prefix: Buffer) => ({ start: prefix, end: Buffer.concat([prefix, Buffer.alloc(40, 0xff)]) })

export class Book {
  private readonly rows: Table<Buffer, Progress>
  private readonly headRows: Table<Buffer, number>
  private readonly resendRows: Table<Buffer, Buffer>
  private readonly lackingRows: Table<Buffer, Buffer>
  private readonly dropRows: Table<Buffer, number>
  private readonly flipRows: Table<Buffer, OpenFlip>
  private readonly generationRows: Table<Buffer, Buffer>

  /** @param db of the partners folder; the tables here have names of their own in it */
  constructor(private readonly db: Database) {
    this.rows = db.table('book progress', encodings.bytes, progressEncoding)
    this.headRows = db.table('book heads', encodings.bytes, encodings.number)
    this.resendRows = db.table('book resend', encodings.bytes, encodings.bytes)
    this.lackingRows = db.table('book lacking', encodings.bytes, encodings.bytes)
    this.dropRows = db.table('book drops', encodings.bytes, encodings.number)
    this.flipRows = db.table('book flips', encodings.bytes, flipEncoding)
    this.generationRows = db.table('book vaults', encodings.bytes, encodings.bytes)
  }

  progress(partner: Buffer): Progress {
    return this.rows.get(partner) ?? none
  }

  /** Sequence number of the volume's head that the partner acknowledged; 0: none. */
  head(partner: Buffer, volume: Buffer): number {
    return this.headRows.get(key(partner, volume)) ?? 0
  }

  heads(partner: Buffer): { volume: Buffer; sequence: number }[] {
    return [...this.headRows.range(under(partner))].map(({ key: found, value: sequence }) => {
      return { volume: found.subarray(32), sequence }
    })
  }

  resend(partner: Buffer, limit: number): Buffer[] {
    return [...this.resendRows.keysOf({ ...under(partner), limit })].map((found) => found.subarray(32))
  }

  /** What the partner lacks since it could not be sent: names after `after`. */
  lacking(partner: Buffer, limit: number, after: Buffer = Buffer.alloc(0)): Buffer[] {
    const start = Buffer.concat([partner, after, Buffer.alloc(1)])
    return [...this.lackingRows.keysOf({ ...under(partner), start, limit })].map((found) =>
      found.subarray(32),
    )
  }

  /** Whether the partner acknowledged all blocks up to the sequence number, and nothing of it is found to be lost. */
  holds(partner: Buffer, sequence: number): boolean {
    if (this.progress(partner).cursor < sequence) return false
    return this.resend(partner, 1).length === 0 && this.lacking(partner, 1).length === 0
  }

  /** Whether the block could not be sent, and is to come later. */
  lacksBlock(partner: Buffer, name: Buffer): boolean {
    return this.lackingRows.has(key(partner, name))
  }

  /** Whether it was found missing or wrong there, and was not sent again. */
  isBad(partner: Buffer, name: Buffer): boolean {
    return this.resendRows.has(key(partner, name))
  }

  /** Whether the partner acknowledged this block, and is not known to lack it. */
  holdsBlock(partner: Buffer, sequence: number, name: Buffer): boolean {
    const row = key(partner, name)
    return (
      this.progress(partner).cursor >= sequence && !this.resendRows.has(row) && !this.lackingRows.has(row)
    )
  }

  /** The last removal that the partner was told of; undefined: never any. */
  dropped(partner: Buffer): number | undefined {
    return this.dropRows.get(partner)
  }

  async setDropped(partner: Buffer, number: number): Promise<void> {
    await this.db.transaction(() => this.dropRows.put(partner, number))
  }

  /** The coin flip that is not answered yet. */
  openFlip(partner: Buffer): OpenFlip | undefined {
    return this.flipRows.get(partner)
  }

  /** @param flip undefined when it is answered */
  async setFlip(partner: Buffer, flip: OpenFlip | undefined): Promise<void> {
    await this.db.transaction(() => {
      if (flip) this.flipRows.put(partner, flip)
      else this.flipRows.remove(partner)
    })
  }

  /** The last removal that every partner was told of which holds anything. */
  droppedByAll(): number {
    let least = Infinity
    for (const { key: partner, value } of this.rows.range()) {
      if (value.cursor > 0 || value.blocksHeld > 0) least = Math.min(least, this.dropped(partner) ?? 0)
    }
    return least
  }

  /** All blocks up to this sequence number are acknowledged. */
  advance(partner: Buffer, cursor: number): Promise<void> {
    return this.change(partner, (row) => ({ ...row, cursor: Math.max(row.cursor, cursor) }))
  }

  /** The partner lost something that it cannot name: all is offered again, and then the heads. */
  async restart(partner: Buffer): Promise<void> {
    await this.db.transaction(() => {
      for (const found of [...this.headRows.keysOf(under(partner))]) this.headRows.remove(found)
      this.rows.put(partner, { ...this.progress(partner), cursor: 0 })
    })
  }

  /** Of the partner's vault, when it was last asked; undefined: never. */
  generation(partner: Buffer): Buffer | undefined {
    const known = this.generationRows.get(partner)
    return known && Buffer.from(known)
  }

  async setGeneration(partner: Buffer, generation: Buffer): Promise<void> {
    await this.db.transaction(() => this.generationRows.put(partner, generation))
  }

  counted(partner: Buffer, held: { bytes: number; blocks: number }): Promise<void> {
    return this.change(partner, (row) => ({ ...row, bytesHeld: held.bytes, blocksHeld: held.blocks }))
  }

  async headStored(partner: Buffer, volume: Buffer, sequence: number): Promise<void> {
    await this.db.transaction(() => this.headRows.put(key(partner, volume), sequence))
  }

  /** The partner does not have the head that it acknowledged: it is sent again. */
  async headLost(partner: Buffer, volume: Buffer): Promise<void> {
    await this.db.transaction(() => this.headRows.remove(key(partner, volume)))
  }

  /** They could not be sent. Durable when it resolves: only then may the cursor pass them. */
  async lacks(partner: Buffer, names: readonly Buffer[]): Promise<void> {
    if (names.length === 0) return
    await this.db.transaction(() => {
      for (const name of names) this.lackingRows.put(key(partner, name), Buffer.from([1]))
    })
  }

  /** They were sent after all, or are no longer known here. */
  async lacksNoMore(partner: Buffer, names: readonly Buffer[]): Promise<void> {
    if (names.length === 0) return
    await this.db.transaction(() => {
      for (const name of names) this.lackingRows.remove(key(partner, name))
    })
  }

  async resent(partner: Buffer, names: readonly Buffer[]): Promise<void> {
    await this.db.transaction(() => {
      let count = 0
      for (const name of names) {
        if (this.resendRows.has(key(partner, name))) count++
        this.resendRows.remove(key(partner, name))
      }
      const row = this.progress(partner)
      this.rows.put(partner, { ...row, verdict: { ...row.verdict, repaired: row.verdict.repaired + count } })
    })
  }

  /** What was found stays on the verdict until a full audit is clean. */
  async found(partner: Buffer, kind: Damage, names: readonly Buffer[], now: number): Promise<void> {
    await this.db.transaction(() => {
      const row = this.progress(partner)
      const fresh = names.filter((name) => !this.resendRows.has(key(partner, name)))
      for (const name of fresh) this.resendRows.put(key(partner, name), Buffer.from([1]))
      const { found, blocks, repaired } = row.verdict
      const kinds = found.includes(kind) ? found : [...found, kind]
      const verdict: Verdict = {
        state: 'damaged',
        found: kinds,
        blocks: blocks + fresh.length,
        repaired,
        at: now,
      }
      this.rows.put(partner, { ...row, verdict })
    })
  }

  /** @param whole whether everything that the partner acknowledged was asked for */
  audited(partner: Buffer, result: { clean: boolean; whole: boolean }, now: number): Promise<void> {
    return this.change(partner, (row) => {
      const lastProof = result.clean ? now : row.lastProof
      const isCleared = result.clean && result.whole
      const verdict: Verdict = isCleared
        ? { state: 'good', found: [], blocks: 0, repaired: 0, at: 0 }
        : row.verdict
      return { ...row, lastAudit: now, lastProof, verdict }
    })
  }

  /** @returns a number for a release that is higher than any used, here or by the partner's own account */
  async nextRelease(partner: Buffer, lastThere: number): Promise<number> {
    const next = Math.max(this.progress(partner).releaseNumber, lastThere) + 1
    await this.change(partner, (row) => ({ ...row, releaseNumber: next }))
    return next
  }

  /** The partner holds nothing of ours any more. */
  async emptied(partner: Buffer): Promise<void> {
    await this.db.transaction(() => {
      for (const table of [this.headRows, this.resendRows, this.lackingRows]) {
        for (const found of [...table.keysOf(under(partner))]) table.remove(found)
      }
      this.flipRows.remove(partner)
      this.rows.put(partner, { ...none, releaseNumber: this.progress(partner).releaseNumber })
    })
  }

  private async change(partner: Buffer, how: (row: Progress) => Progress): Promise<void> {
    await this.db.transaction(() => this.rows.put(partner, how(this.progress(partner))))
  }
}
