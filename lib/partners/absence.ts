/**
 * This node's own announced absence: kept on disk, so that partners that come on line later hear of it, too, also after a restart.
 * What it is worth to them is theirs to say (planning/partner-state.ts): at most 90 days a year, and none while audits are open.
 *
 * Table `absence`: `own` -> [0..8) made, ms since 1970 u64   [8..16) until u64; 0: back
 */
import type { Clock } from '../base/clock.js'
import { asKithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { encodings, type Database, type Table } from '../blocks/database.js'
import { Reader, Writer } from '../format/bytes.js'
import type { KeyPair } from '../format/hash.js'
import { encodeAbsence } from '../format/wire-away.js'
import { awayMostMs } from '../planning/partner-state.js'
import type { Peer } from './types.js'

export interface AbsenceOptions {
  db: Database
  self: KeyPair
  /** partners on line */
  peers(): Peer[]
  clock: Clock
  log: Log
}

/** @param until what the partner takes of it, ms since 1970; 0: nothing; undefined: it was not told */
export type Told = { key: Buffer; until: number | undefined }

export class OwnAbsence {
  private readonly table: Table<string, Buffer>
  private row: { made: number; until: number } | undefined
  private readonly told = new WeakMap<Peer, number>()

  constructor(private readonly options: AbsenceOptions) {
    this.table = options.db.table('absence', encodings.text, encodings.bytes)
    const stored = this.table.get('own')
    if (!stored) return
    const from = new Reader(Buffer.from(stored), 'announced absence')
    this.row = { made: from.number(), until: from.number() }
  }

  /** ms since 1970; null: none runs */
  get until(): number | null {
    const until = this.row?.until ?? 0
    return until > this.now ? until : null
  }

  /** Durable before anybody hears of it. @param until ms since 1970; 0: back */
  async announce(until: number): Promise<Told[]> {
    // Partners take no word that is older than the last, whatever the clock says.
    const made = Math.max(this.now, (this.row?.made ?? 0) + 1)
    const row = { made, until }
    await this.options.db.transaction(() =>
      this.table.put('own', new Writer(16).number(made).number(until).finish()),
    )
    this.row = row
    return Promise.all(
      this.options.peers().map(async (peer) => ({ key: peer.key, until: await this.tell(peer) })),
    )
  }

  /** Sessions came: whoever was not told hears of it. */
  follow(): void {
    if (!this.row || Math.abs(this.now - this.row.made) > awayMostMs) return
    for (const peer of this.options.peers()) if (this.told.get(peer) !== this.row.made) void this.tell(peer)
  }

  private async tell(peer: Peer): Promise<number | undefined> {
    if (!this.row || !peer.hears) return undefined
    const { made, until } = this.row
    this.told.set(peer, made)
    try {
      const notice = encodeAbsence({ partner: peer.key, made, until }, this.options.self)
      return (await peer.request('away', { notice })).until
    } catch (error) {
      const reason = asKithError(error).message
      this.options.log.info({ peer: peer.key.toString('hex'), reason }, 'an absence could not be told')
      return undefined
    }
  }

  private get now(): number {
    return Math.max(0, Math.round(this.options.clock.now()))
  }
}
