/**
 * Track records that others can check: partners from the pool attest how the other keeps their agreement (format/wire-attestation.ts), and
 * show strangers what their partners attest of them.
 *
 *     collect   of a partner on line, once a day: its word on us, the newest by each; kept for a year after it was given
 *     show      to whoever asks: the newest of them
 *     hear      of somebody met in the pool: what it shows. A word counts when it verifies, is about who shows it, is no older than a year,
 *               and its giver is a friend, or a partner of ours that kept its agreement with us: of all others nobody knows whether they
 *               are more than names (planning/trust.ts says what it counts for)
 *
 * Table `attestations`: key of who gave it -> [0..148) the attestation, as it came
 */
import type { Clock } from '../base/clock.js'
import { asKithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { encodings, type Database, type Table } from '../blocks/database.js'
import type { KeyPair } from '../format/hash.js'
import {
  type Attestation,
  decodeAttestation,
  encodeAttestation,
  maxShown,
} from '../format/wire-attestation.js'
import type { Replies } from '../format/wire.js'
import { withHeard } from '../planning/trust.js'
import type { TrackRecord } from '../planning/types.js'
import type { Peer } from './types.js'

export interface AttestationsOptions {
  db: Database
  self: KeyPair
  /** partners on line */
  online(): Peer[]
  /** whether it is a partner from the pool, and keeps its agreement. Of friends strangers are told nothing, not even their keys */
  isPartner(key: Buffer): boolean
  /** whether its word counts: a friend, or a partner that has kept its agreement for a while */
  isTrusted(key: Buffer): boolean
  /** as we saw it ourselves */
  record(key: Buffer): TrackRecord
  /** of the days in records; the same as counts partners' states */
  clock: Clock
  log: Log
}

const dayMs = 86_400_000
const validMs = 366 * dayMs
/** Clocks differ. */
const aheadMs = dayMs
/** Of us, from partners, and of others met since the start, at most. */
const maxKept = 256
const maxHeard = 4096

export class Attestations {
  private readonly table: Table<Buffer, Buffer>
  /** By id of whom they are about. */
  private readonly heard = new Map<string, Attestation[]>()
  /** When a partner was asked last, by id. */
  private readonly asked = new Map<string, number>()
  /** What was signed last, by id of whom it is about: a signature costs more than a request. */
  private readonly given = new Map<string, { made: number; bytes: Buffer }>()
  private working: Promise<unknown> = Promise.resolve()

  constructor(private readonly options: AttestationsOptions) {
    this.table = options.db.table('attestations', encodings.bytes, encodings.bytes)
  }

  /** Asks partners that were not asked for a day. Never throws. */
  follow(): void {
    const now = this.options.clock.now()
    for (const peer of this.options.online()) {
      const id = peer.key.toString('hex')
      const isDue = Math.abs(now - (this.asked.get(id) ?? -Infinity)) >= dayMs
      if (!isDue || !this.options.isPartner(peer.key)) continue
      this.asked.set(id, now)
      this.working = Promise.all([this.working, this.hear(peer)])
    }
  }

  async stop(): Promise<void> {
    await this.working
  }

  /** What this peer is told. */
  answer(peer: Buffer): Replies['attest'] {
    return { own: this.options.isPartner(peer) ? this.signed(peer) : undefined, shown: this.newest() }
  }

  /** Asks somebody what it says of us, and what others said of it. Never throws. */
  async hear(peer: Peer): Promise<void> {
    if (!peer.attests) return
    const id = peer.key.toString('hex')
    try {
      const { own, shown } = await peer.request('attest', {})
      if (own) await this.keep(peer.key, Buffer.from(own))
      this.heard.delete(id)
      this.heard.set(
        id,
        shown.flatMap((bytes) => this.readAbout(peer.key, bytes) ?? []),
      )
      for (const oldest of this.heard.keys()) {
        if (this.heard.size <= maxHeard) break
        this.heard.delete(oldest)
      }
    } catch (error) {
      this.options.log.debug({ peer: id, reason: asKithError(error).message }, 'nothing was attested')
    }
  }

  /** As seen here, and as those say whose word counts. */
  record(key: Buffer): TrackRecord {
    const { record, isTrusted, clock } = this.options
    const now = clock.now()
    const givers = new Map<string, Attestation>()
    for (const one of this.heard.get(key.toString('hex')) ?? [])
      if (isTrusted(one.by) && isValid(one, now)) givers.set(one.by.toString('hex'), one)
    const heard = [...givers.values()].map(({ by, days, kept, reneged }) => {
      return { days, kept, reneged, knownDays: record(by).days }
    })
    return withHeard(record(key), heard)
  }

  private signed(about: Buffer): Buffer {
    const id = about.toString('hex')
    const made = Math.floor(this.options.clock.now())
    const before = this.given.get(id)
    if (before && Math.abs(made - before.made) < dayMs) return before.bytes
    const { days, kept, reneged } = this.options.record(about)
    const bytes = encodeAttestation({ about, made, days, kept, reneged }, this.options.self)
    this.given.set(id, { made, bytes })
    return bytes
  }

  private newest(): Buffer[] {
    const now = this.options.clock.now()
    return this.all()
      .filter(({ said }) => isValid(said, now))
      .slice(0, maxShown)
      .map(({ bytes }) => bytes)
  }

  /** Those about us, the newest first. */
  private all(): { by: Buffer; bytes: Buffer; said: Attestation }[] {
    return [...this.table.range()]
      .map(({ key, value }) => {
        const bytes = Buffer.from(value)
        return { by: Buffer.from(key), bytes, said: decodeAttestation(bytes) }
      })
      .sort((a, b) => b.said.made - a.said.made)
  }

  /** A partner's word on us. One that praises nothing is kept, too: it takes the place of an older one, which was better. */
  private async keep(by: Buffer, bytes: Buffer): Promise<void> {
    const { self, db, clock } = this.options
    const said = decodeAttestation(bytes)
    const now = clock.now()
    if (!said.by.equals(by) || !said.about.equals(self.publicKey) || !isValid(said, now)) return
    const others = this.all().filter((one) => !one.by.equals(by))
    const gone = others.filter((one, i) => i >= maxKept - 1 || !isValid(one.said, now))
    await db.transaction(() => {
      this.table.put(by, bytes)
      for (const one of gone) this.table.remove(one.by)
    })
  }

  private readAbout(about: Buffer, bytes: Buffer): Attestation | undefined {
    try {
      const said = decodeAttestation(Buffer.from(bytes))
      return said.about.equals(about) ? said : undefined
    } catch {
      this.options.log.warn({ peer: about.toString('hex') }, 'it shows an attestation that does not verify')
      return undefined
    }
  }
}

function isValid({ made }: Attestation, now: number): boolean {
  return made <= now + aheadMs && now - made < validMs
}
