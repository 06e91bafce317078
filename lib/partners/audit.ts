/**
 * Makes partners prove that they hold what they acknowledged. The answer for a block is a keyed hash over a fresh nonce and
 * its bytes (format/wire.ts), compared with the same over our own copy. The partner's heads are asked for too: one older than
 * it acknowledged is stale.
 *
 * Two modes. `sample`: some 64 blocks drawn by a coin flip with the partner (coin-audit.ts), so that one that lost a tenth of
 * them is found out with 99 % (1 - 0.9^44), at 8 KiB of traffic; what it does not prove then, it is asked for by name. `full`:
 * all of them by name, in a random order. A sample that finds something is followed by a full audit at once. What is found
 * missing or wrong goes to the book's list of blocks to send again; the finding stays on the partner's verdict until a later
 * full audit is clean, which is run when all was sent again.
 *
 * Of blocks that are not kept here there is no own copy to compare with. In each audit, a few of them are read back from the
 * partner in whole, which proves as much, as far as audits may cost (audit-traffic.ts); of the others, only that it says it has
 * them is asked.
 */
import { asKithError, KithError } from '../base/errors.js'
import type { Clock, Timer } from '../base/clock.js'
import type { Log } from '../base/log.js'
import { randomBytes } from '../base/random.js'
import { decodeHead, type Head } from '../format/head.js'
import { blockName } from '../format/seal.js'
import { maxAsked, nonceBytes, possessionProof } from '../format/wire.js'
import { caughtWithin } from '../planning/audit-confidence.js'
import type { Book } from './book.js'
import { AuditTraffic } from './audit-traffic.js'
import { drawTogether } from './coin-audit.js'
import type { PartnerView, Placement } from './placement.js'
import type { AuditInfo } from './reports.js'
import type { Damage, OwnedBlocks, Peer, Peers } from './types.js'

/** Asked for by name where the partner flips no coin with us. */
const sampleBlocks = 44

export interface AuditorOptions {
  peers: Peers
  blocks: OwnedBlocks
  book: Book
  /** what else is where; without it, every partner holds every block and nothing more */
  placement?: Placement
  /** our own public key */
  owner: Buffer
  /** between samples of one partner */
  intervalMs: number
  /** that audits of one partner take on average, but for those that are asked for */
  bytesPerDay?: number
  clock: Clock
  log: Log
  /** called when blocks or heads must be sent again */
  onRepair: () => void
  /** told of each audit by what it came to */
  onAudit?(partner: Buffer, outcome: 'passed' | 'failed' | 'unanswered'): void
  /** whether blocks may be asked back of the partner now; always, when not given */
  honours?(partner: Buffer): boolean
  /** whether the partner is to show soon that it still has what it had */
  isPressing?(partner: Buffer): boolean
}

export interface Audit {
  asked: number
  proven: number
  /** without repetition; empty: all is well */
  found: Damage[]
}

type Note = (kind: Damage) => void
type Bad = Record<'missing' | 'wrong', Buffer[]>

/** Of an audit, at most so many that are not kept here are read back: 1 MiB each at most. */
const readBackMost = 4

const tickMs = 15_000
export const defaultBytesPerDay = 100_000
/** From the last audit or finding to the full audit that may clear it: a partner that keeps losing blocks is not asked back to back. */
const againMs = 60_000
/** Of an audit that somebody waits for; and how long the partner may take to come back. */
const maxTries = 3
const returnMs = 5_000
/** Tries to hit a sequence number that is in use; blocks that were removed leave gaps. */
const drawTries = 64

/** A number below `bound` that nobody can foresee. */
function draw(bound: number): number {
  return Number(randomBytes(8).readBigUInt64LE() % BigInt(bound))
}

export class Auditor {
  private timer: Timer | undefined
  private stopped = false
  /** Running now, by partner: one audit at a time each. */
  private readonly running = new Map<string, Promise<unknown>>()
  /** When (monotonic ms) somebody who is pressed was last asked. */
  private readonly pressed = new Map<string, number>()
  /** When (monotonic ms) nothing could be asked for the cost of it. */
  private readonly postponed = new Map<string, number>()
  readonly traffic: AuditTraffic

  constructor(private readonly options: AuditorOptions) {
    this.traffic = new AuditTraffic(options.clock, options.bytesPerDay ?? defaultBytesPerDay)
    this.tickSoon()
  }

  /** What audits of these partners find, and what they cost. */
  info(partners: readonly Buffer[]): AuditInfo {
    const { book, placement, intervalMs } = this.options
    const [lost, confidence] = [0.01, 0.99]
    const held = partners.filter((key) => book.progress(key).cursor > 0)
    const within = held.map((key) => {
      const blocks = (placement?.view(key) ?? this.options.blocks).countTo(book.progress(key).cursor)
      return caughtWithin({ blocks, lost, confidence }, intervalMs)
    })
    return {
      lost,
      confidence,
      caughtWithinMs: within.length === 0 ? null : Math.max(...within),
      bytesLastDay: Math.max(0, ...held.map((key) => this.traffic.lastDay(key))),
      bytesPerDay: this.traffic.perDay,
    }
  }

  /** Resolves soon only after the sessions were closed. */
  async stop(): Promise<void> {
    this.stopped = true
    this.timer?.cancel()
    await Promise.all(this.running.values())
  }

  /**
   * For somebody who waits: an audit that is cut short by the end of its connection begins anew over the next one, if that comes soon.
   * @returns undefined when the partner is not on line
   */
  async ask(partner: Buffer, isFull: boolean): Promise<Audit | undefined> {
    let peer = this.peer(partner)
    let audit: Audit | undefined
    for (let tries = 0; peer && tries < maxTries; tries++) {
      audit = await (isFull ? this.full(peer) : this.sample(peer))
      if (!peer.closed || !audit.found.includes('unreachable')) return audit
      peer = await this.returned(partner)
    }
    return audit
  }

  private peer(partner: Buffer): Peer | undefined {
    return this.options.peers.online().find(({ key, closed }) => key.equals(partner) && !closed)
  }

  /** The partner's next session; undefined when there is none within some seconds. */
  private returned(partner: Buffer): Promise<Peer | undefined> {
    const { peers, clock } = this.options
    return new Promise((resolve) => {
      const look = () => {
        const peer = this.peer(partner)
        if (peer || this.stopped) finish(peer)
      }
      const finish = (peer: Peer | undefined) => {
        stop()
        bound.cancel()
        resolve(peer)
      }
      const bound = clock.after(returnMs, () => finish(undefined))
      const stop = peers.onChange(look)
      peers.hurry()
      look()
    })
  }

  /** Blocks that the coin chooses, and the heads. */
  sample(given: Peer): Promise<Audit> {
    const peer = this.traffic.metered(given)
    return this.alone(peer, async () => {
      const audit = await this.run(peer, false, (...to) => this.drawn(peer, ...to))
      return audit.found.length === 0 || audit.found.includes('unreachable') ? audit : this.whole(peer)
    })
  }

  /** All blocks that the partner acknowledged, in a random order, and the heads. */
  full(given: Peer): Promise<Audit> {
    const peer = this.traffic.metered(given)
    return this.alone(peer, () => this.whole(peer))
  }

  private whole(peer: Peer): Promise<Audit> {
    return this.run(peer, true, async (...to) => {
      const told = await this.named(peer, this.permuted(peer.key), ...to)
      await this.readBack(peer, told.slice(0, readBackMost), ...to)
    })
  }

  private async run(
    peer: Peer,
    isWhole: boolean,
    ask: (audit: Audit, note: Note) => Promise<void>,
  ): Promise<Audit> {
    const { book, clock, log } = this.options
    const audit: Audit = { asked: 0, proven: 0, found: [] }
    const note = (kind: Damage) => audit.found.includes(kind) || audit.found.push(kind)
    try {
      await ask(audit, note)
      await this.checkHeads(peer, note)
    } catch (error) {
      log.debug({ partner: peer.key.toString('hex'), error: asKithError(error).message }, 'audit broken off')
      note('unreachable')
    }
    if (this.stopped) return audit
    if (audit.found.includes('unreachable')) {
      this.options.onAudit?.(peer.key, 'unanswered')
      return audit
    }
    // Where nothing was asked, nothing is proven.
    if (audit.asked === 0 && audit.found.length === 0) return audit
    await book.audited(peer.key, { clean: audit.found.length === 0, whole: isWhole }, clock.now())
    this.options.onAudit?.(peer.key, audit.found.length === 0 ? 'passed' : 'failed')
    if (audit.found.length > 0) {
      log.warn({ partner: peer.key.toString('hex'), ...audit }, 'the partner failed an audit')
      this.options.onRepair()
    }
    return audit
  }

  /** Blocks that both of us chose. */
  private async drawn(peer: Peer, audit: Audit, note: Note): Promise<void> {
    const { book, clock } = this.options
    const draw = await drawTogether({ book, blocks: this.blocksOf(peer.key) }, peer)
    if (draw === 'refused') {
      const told = await this.named(peer, this.chosen(peer.key), audit, note)
      return this.readAsFits(peer, told, audit, note)
    }
    if (draw.answer === 'none') {
      note('missing')
      audit.asked += draw.names.length
      await book.found(peer.key, 'missing', draw.names, clock.now())
      return
    }
    const unproven: Buffer[] = []
    const away: Buffer[] = []
    for (const name of draw.names) {
      const bytes = await this.own(peer.key, name)
      const given = draw.answer.get(name.toString('hex'))
      if (!bytes) {
        if (given) away.push(name)
        else unproven.push(name)
        continue
      }
      if (given?.equals(possessionProof(draw.nonce, peer.key, bytes)) !== true) unproven.push(name)
      else {
        audit.asked++
        audit.proven++
      }
    }
    for (let i = 0; i < unproven.length; i += maxAsked)
      away.push(...(await this.challenge(peer, unproven.slice(i, i + maxAsked), audit, note)))
    await this.readAsFits(peer, away, audit, note)
  }

  /** @returns names of blocks that it says it has, and of which there is no copy here */
  private async named(peer: Peer, places: readonly number[], audit: Audit, note: Note): Promise<Buffer[]> {
    const away: Buffer[] = []
    for (let i = 0; i < places.length && !this.stopped; i += maxAsked) {
      const names = places.slice(i, i + maxAsked).flatMap((place) => this.nameAt(peer.key, place) ?? [])
      away.push(...(await this.challenge(peer, names, audit, note)))
    }
    return away
  }

  /**
   * @param names at most maxAsked
   * @returns as named()
   */
  private async challenge(peer: Peer, names: readonly Buffer[], audit: Audit, note: Note): Promise<Buffer[]> {
    const { book } = this.options
    const blocks = this.blocksOf(peer.key)
    const nonce = randomBytes(nonceBytes)
    const asked: { name: Buffer; proof: Buffer | undefined }[] = []
    for (const name of names) {
      if (!blocks.has(name) || book.lacksBlock(peer.key, name)) continue
      const bytes = await this.own(peer.key, name)
      asked.push({ name, proof: bytes && possessionProof(nonce, peer.key, bytes) })
    }
    if (asked.length === 0) return []
    const proofs = await this.prove(peer, nonce, asked)
    const bad: Bad = { missing: [], wrong: [] }
    const away: Buffer[] = []
    asked.forEach(({ name, proof }, i) => {
      const given = proofs[i]
      if (given === undefined) bad.missing.push(name)
      else if (proof === undefined) away.push(name)
      else if (!given.equals(proof)) bad.wrong.push(name)
    })
    audit.asked += asked.length - away.length
    audit.proven += asked.length - away.length - bad.missing.length - bad.wrong.length
    await this.note(peer, bad, note)
    return away
  }

  /** As many as audits may cost. Who could be asked nothing else is asked again when the next audit is due. */
  private async readAsFits(peer: Peer, names: readonly Buffer[], audit: Audit, note: Note): Promise<void> {
    for (const name of names.slice(0, readBackMost))
      if (this.traffic.hasRoom(peer.key)) await this.readBack(peer, [name], audit, note)
    if (names.length > 0 && audit.asked === 0)
      this.postponed.set(peer.key.toString('hex'), this.options.clock.monotonic())
  }

  /** What a partner gives, and is what its name says, it has. */
  private async readBack(peer: Peer, names: readonly Buffer[], audit: Audit, note: Note): Promise<void> {
    if (this.options.honours?.(peer.key) === false) return
    const bad: Bad = { missing: [], wrong: [] }
    for (const name of names) {
      const [block] = (await peer.request('get', { names: [name] })).blocks
      if (block === 'later') continue
      audit.asked++
      if (!Buffer.isBuffer(block)) bad.missing.push(name)
      else if (blockName(block).equals(name)) audit.proven++
      else bad.wrong.push(name)
    }
    await this.note(peer, bad, note)
  }

  private async note(peer: Peer, bad: Bad, note: Note): Promise<void> {
    const { book, clock } = this.options
    for (const kind of ['missing', 'wrong'] as const) {
      if (bad[kind].length === 0) continue
      note(kind)
      await book.found(peer.key, kind, bad[kind], clock.now())
    }
  }

  /** A partner that answers with a refusal proves nothing. */
  private async prove(peer: Peer, nonce: Buffer, asked: readonly { name: Buffer }[]) {
    try {
      const { proofs } = await peer.request('prove', { nonce, names: asked.map(({ name }) => name) })
      return proofs
    } catch (error) {
      if (peer.closed || asKithError(error).code === 'noPartners') throw error
      return asked.map(() => undefined)
    }
  }

  private async checkHeads(peer: Peer, note: Note): Promise<void> {
    const { book, clock } = this.options
    const acknowledged = book.heads(peer.key)
    if (acknowledged.length === 0) return
    const { heads } = await peer.request('headGet', {})
    const there = new Map<string, number>()
    for (const bytes of heads) {
      const head = verified(bytes, this.options.owner)
      if (head) there.set(head.volumeId.toString('hex'), head.sequence)
    }
    for (const { volume, sequence } of acknowledged) {
      const held = there.get(volume.toString('hex'))
      if (held !== undefined && held >= sequence) continue
      const kind = held === undefined ? 'badHead' : 'oldHead'
      note(kind)
      await book.found(peer.key, kind, [], clock.now())
      await book.headLost(peer.key, volume)
    }
  }

  /** Our own copy; one that is damaged or gone here cannot tell anything about the partner's. */
  private async own(partner: Buffer, name: Buffer): Promise<Buffer | undefined> {
    try {
      return await this.blocksOf(partner).get(name)
    } catch (error) {
      if (error instanceof KithError && error.code === 'damaged') return undefined
      throw error
    }
  }

  private view(partner: Buffer): PartnerView | undefined {
    return this.options.placement?.view(partner)
  }

  /** What that partner is to hold. */
  private blocksOf(partner: Buffer): OwnedBlocks {
    return this.view(partner) ?? this.options.blocks
  }

  /** @param place the number of a block; below zero, of a stripe (placement.ts) */
  private nameAt(partner: Buffer, place: number): Buffer | undefined {
    const view = this.view(partner)
    if (view) return view.nameAt(place)
    const row = this.options.blocks.since(place - 1, 1)[0]
    return row?.sequence === place ? row.name : undefined
  }

  /** Without the partner's say. */
  private chosen(partner: Buffer): number[] {
    const { cursor } = this.options.book.progress(partner)
    if (this.view(partner)) return this.permuted(partner).slice(0, sampleBlocks)
    const drawn = new Set<number>()
    for (
      let tries = 0;
      cursor > 0 && drawn.size < sampleBlocks && tries < sampleBlocks * drawTries;
      tries++
    ) {
      const sequence = 1 + draw(cursor)
      if (this.nameAt(partner, sequence)) drawn.add(sequence)
    }
    return [...drawn]
  }

  private permuted(partner: Buffer): number[] {
    const { cursor } = this.options.book.progress(partner)
    const all = this.view(partner)?.places(cursor) ?? this.allUpTo(cursor)
    for (let i = all.length - 1; i > 0; i--) {
      const j = draw(i + 1)
      const [a, b] = [all[i], all[j]]
      if (a !== undefined && b !== undefined) [all[i], all[j]] = [b, a]
    }
    return all
  }

  private allUpTo(cursor: number): number[] {
    const all: number[] = []
    for (let at = 0; at < cursor;) {
      const rows = this.options.blocks.since(at, 1000)
      for (const { sequence } of rows) if (sequence <= cursor) all.push(sequence)
      at = rows.at(-1)?.sequence ?? cursor
    }
    return all
  }

  private alone<T>(peer: Peer, work: () => Promise<T>): Promise<T> {
    const id = peer.key.toString('hex')
    const before = this.running.get(id) ?? Promise.resolve()
    const done = before.then(work)
    const quiet = done.catch(() => undefined)
    this.running.set(id, quiet)
    void quiet.then(() => this.running.get(id) === quiet && this.running.delete(id))
    return done
  }

  private tickSoon(): void {
    this.timer = this.options.clock.after(tickMs, () => {
      for (const peer of this.options.peers.online()) {
        if (!peer.lends || this.running.has(peer.key.toString('hex'))) continue
        const mode = this.due(peer.key)
        if (mode === undefined) continue
        void this[mode](peer).catch((error: unknown) => {
          this.options.log.error({ err: error }, 'an audit failed')
        })
      }
      if (!this.stopped) this.tickSoon()
    })
  }

  private presses(partner: Buffer): boolean {
    const id = partner.toString('hex')
    const now = this.options.clock.monotonic()
    const isDue =
      this.options.isPressing?.(partner) === true && now - (this.pressed.get(id) ?? -Infinity) >= againMs
    if (isDue) this.pressed.set(id, now)
    return isDue
  }

  private due(partner: Buffer): 'sample' | 'full' | undefined {
    const { book, clock, intervalMs } = this.options
    const { cursor, lastAudit, verdict } = book.progress(partner)
    if (cursor === 0) return undefined
    const now = clock.now()
    // A clock that was set back makes the audit due.
    const past = (then: number) => (now < then ? Infinity : now - then)
    const quiet = Math.min(past(lastAudit), past(verdict.at))
    if (verdict.state === 'damaged' && quiet >= againMs && book.holds(partner, cursor)) return 'full'
    const postponed = this.postponed.get(partner.toString('hex')) ?? -Infinity
    if (clock.monotonic() - postponed < intervalMs) return undefined
    if (past(lastAudit) >= intervalMs) return 'sample'
    return verdict.state !== 'damaged' && this.presses(partner) ? 'sample' : undefined
  }
}

function verified(bytes: Buffer, owner: Buffer): Head | undefined {
  try {
    const head = decodeHead(bytes)
    return head.owner.equals(owner) ? head : undefined
  } catch {
    return undefined
  }
}
