/**
 * The agreements of this node: carries out what negotiation.ts decides. Keeps the state of each pair on disk, speaks to
 * partners that are on line, and says what follows from it: how much the vault takes of whom, to whom we send, and when the
 * notice after an end is over.
 *
 * Every step is one transaction on one row, one step of a pair at a time, and what was decided is durable before it is said. When members of a circle
 * meet, both compare; then the one with the smaller key proposes, so that offers seldom cross. If they do, both decline,
 * and the smaller key is the first to try again.
 *
 * Table `agreements`, under the partner's key:
 *
 *     [0]       version, 1
 *     [1]       bit 0: freed   bit 1: declined by us (else by the partner)   bit 2: the user wants a new one
 *     [2]       reason of the last decline, by number (wire-agreement.ts); 0: none
 *     [3]       0
 *     [4..12)   spent number, u64   [12..20) of the notice passed, ms: u64
 *     [20..28)  bytes to hold for it + 1, [28..36) bytes wanted of it + 1, as the user asked: u64; 0: not asked
 *     then      newest (wire-agreement.ts): the document, its ending
 *     then      length u16 (0 or 340) and our open offer
 */
import { asKithError, KithError } from '../base/errors.js'
import type { Clock, Timer } from '../base/clock.js'
import type { Log } from '../base/log.js'
import { encodings, type Database, type Table } from '../blocks/database.js'
import { agreementBytes, decodeAgreement, decodeEnding, decodeOffer } from '../format/agreement.js'
import { Reader, Writer } from '../format/bytes.js'
import type { KeyPair } from '../format/hash.js'
import type { Replies } from '../format/wire.js'
import { declineReasons, readNewest, writeNewest, type DeclineReason } from '../format/wire-agreement.js'
import { Limiter } from './addresses.js'
import * as negotiation from './negotiation.js'
import { noPact, type Pact, type Policy, type Scene, type Standing } from './negotiation.js'
import type { AnswerPacts, Peer } from './types.js'

export interface AgreementsOptions {
  db: Database
  self: KeyPair
  /** what the settings say for this partner; without what the user asked of this one */
  policy(partner: Buffer): Policy
  /** sessions with members of our circles, and with who says that an agreement with us stands */
  members(): Peer[]
  /** whether it shares a circle with us; all do, when not given */
  isFriend?(partner: Buffer): boolean
  /** an agreement was made after one that had ended: what the partner held of ours may be gone */
  renewed(partner: Buffer): Promise<void>
  /** lets go of all that is held for this partner */
  free(partner: Buffer): Promise<void>
  /** whom we send to, or how much we take, may have changed */
  changed(): void
  clock: Clock
  /** counts the notices */
  tickClock: Clock
  log: Log
}

export interface PactInfo {
  standing: Standing
  /** of the newest agreement */
  number: number
  /** ms since 1970; `until` null: until one side ends it */
  made: number
  until: number | null
  ours: PactSide
  theirs: PactSide
  /** who ended it, and when */
  ended: { byUs: boolean; time: number } | null
  /** ms of this node's running time until what it holds for the partner goes; null when nothing was ended */
  noticeLeftMs: number | null
}

/** Times in seconds. */
export interface PactSide {
  holds: number
  hours: Buffer
  bandwidth: number
  audit: number
  grace: number
  commitment: number
  notice: number
}

interface Talk {
  again: boolean
  /** we want an agreement with a stranger */
  sought: boolean
  /** we have a reason of our own to propose */
  own: boolean
  done: Promise<void>
}

const tickMs = 60_000
const maxRounds = 5
/** Before the second try of the smaller, and of the larger key. */
const againFirstMs = 1000
const againSecondMs = 4000
/** Offers of one partner; beyond, it is told to wait. */
const limits = { burst: 30, perMinute: 30, capacity: 512 }
const version = 1

export class Agreements {
  private readonly table: Table<Buffer, Buffer>
  private readonly pacts = new Map<string, Pact>()
  /** What runs with each peer now; `again`: something changed meanwhile. */
  private readonly running = new Map<Peer, Talk>()
  /** Partners to which an offer is on its way. */
  private readonly offering = new Set<string>()
  private readonly met = new WeakSet<Peer>()
  /** How often it came to nothing since it did not. */
  private readonly tries = new WeakMap<Peer, number>()
  private readonly limiter: Limiter
  /** The last step of each pair: the next one waits for it. */
  private readonly steps = new Map<string, Promise<void>>()
  private ticking: Promise<void> = Promise.resolve()
  private tickedAt: number
  private timer: Timer
  private stopped = false

  constructor(private readonly options: AgreementsOptions) {
    this.table = options.db.table('agreements', encodings.bytes, encodings.bytes)
    for (const { key, value } of this.table.range()) this.pacts.set(key.toString('hex'), decodePact(value))
    this.limiter = new Limiter(options.clock, limits)
    this.tickedAt = options.tickClock.monotonic()
    this.timer = this.nextTick()
  }

  /** Resolves when nothing is written any more; sessions must have ended. */
  async stop(): Promise<void> {
    this.stopped = true
    this.timer.cancel()
    await Promise.all([this.ticking, ...[...this.running.values()].map(({ done }) => done)])
    await Promise.all(this.steps.values())
  }

  info(partner: Buffer): PactInfo | undefined {
    const pact = this.pact(partner)
    const now = this.options.clock.now()
    if (!pact.document) return undefined
    const { agreement } = pact.document
    const { ours, theirs } = negotiation.sidesOf(agreement, this.self)
    const ending = pact.ending?.ending
    const left = pact.freed ? 0 : negotiation.noticeLeft(pact, this.self, now)
    return {
      standing: negotiation.standing(pact, now),
      number: agreement.number,
      made: agreement.made,
      until: agreement.until || null,
      ours,
      theirs,
      ended: ending ? { byUs: ending.by.equals(this.self), time: ending.time } : null,
      noticeLeftMs: left ?? null,
    }
  }

  /** What stands in the way of an agreement, one line each. */
  trouble(partner: Buffer, isResting = false): string[] {
    const { refused, document, ending } = this.pact(partner)
    const lines: string[] = []
    const isOver = this.isOver(partner)
    if (document && isOver) {
      const who = ending
        ? `${ending.ending.by.equals(this.self) ? 'you' : 'it'} ended the agreement`
        : 'the agreement ran out'
      const { notice } = negotiation.sidesOf(document.agreement, this.self).theirs
      const what = isResting
        ? 'nothing is left of it, and it is not dialled any more (kith agreement renew)'
        : `nothing more is sent to it, and it keeps what it holds for ${days(notice)} of its running time`
      lines.push(`${who}: ${what}`)
    }
    if (refused) {
      const what = refused.byUs ? 'its last proposal was declined' : 'it declined the last proposal'
      const still = isOver ? '' : document ? '; the agreement from before holds' : '; nothing is sent to it'
      lines.push(`${what}: ${reasonTexts[refused.reason]}${still}`)
    }
    return lines
  }

  /** Whether blocks may be sent to it: one that makes no agreements is served without. */
  sendsTo(peer: Peer): boolean {
    return !peer.agrees || this.standing(peer.key) === 'active'
  }

  /** Whether an agreement with it is over. */
  isOver(partner: Buffer): boolean {
    const standing = this.standing(partner)
    return standing === 'ended' || standing === 'expired'
  }

  /** Whether it is over, with the notice, and no new one is wanted. */
  isPast(partner: Buffer): boolean {
    const { freed, asks, offer } = this.pact(partner)
    return this.isOver(partner) && freed && !asks.anew && !offer
  }

  /** Bytes of quota that this owner may fill: what was agreed upon; without an agreement, what is offered to it. */
  room(owner: Buffer): number {
    const pact = this.pact(owner)
    const standing = negotiation.standing(pact, this.options.clock.now())
    if (standing === 'none' || !pact.document)
      return this.isFriend(owner) ? this.scene(owner).policy.terms.holds : 0
    return standing === 'active' ? negotiation.sidesOf(pact.document.agreement, this.self).ours.holds : 0
  }

  /** Whether an agreement with somebody of no circle of ours stands, or its notice runs. */
  isBound(partner: Buffer): boolean {
    const { document, freed } = this.pact(partner)
    return document !== undefined && !freed && !this.isFriend(partner)
  }

  /** Those of no circle of ours: bound by an agreement; or offered one that they may sign yet, and did not answer. */
  strangers(): { bound: Buffer[]; offered: Buffer[] } {
    const now = this.options.clock.now()
    const all = [...this.pacts].map(([id, pact]) => ({ key: Buffer.from(id, 'hex'), pact }))
    const keys = (wanted: (pact: Pact) => boolean) =>
      all.filter(({ key, pact }) => wanted(pact) && !this.isFriend(key)).map(({ key }) => key)
    return {
      bound: keys((pact) => negotiation.standing(pact, now) === 'active'),
      offered: keys(
        ({ document, offer }) => !document && offer !== undefined && offer.agreement.signBy > now,
      ),
    }
  }

  /** All that hold something for us by an agreement that stands. */
  active(): Buffer[] {
    return [...this.pacts.keys()]
      .map((id) => Buffer.from(id, 'hex'))
      .filter((key) => this.promised(key).theirs > 0)
  }

  /** Bytes that we are bound to hold for this partner, and it for us. */
  promised(partner: Buffer): { ours: number; theirs: number } {
    const { document } = this.pact(partner)
    if (!document || this.standing(partner) !== 'active') return { ours: 0, theirs: 0 }
    const { ours, theirs } = negotiation.sidesOf(document.agreement, this.self)
    return { ours: ours.holds, theirs: theirs.holds }
  }

  /** Seeks an agreement with a stranger that is on line. @returns whether there is one now */
  async seek(peer: Peer): Promise<boolean> {
    await this.converse(peer, true, true)
    return this.standing(peer.key) === 'active'
  }

  /** Sessions came or went: speaks to those that are new. */
  follow(): void {
    for (const peer of this.options.members()) {
      if (!peer.agrees || this.met.has(peer)) continue
      this.met.add(peer)
      void this.converse(peer, false)
    }
  }

  /** The settings changed: proposes to those on line what follows from them. */
  settingsChanged(): void {
    for (const peer of this.options.members()) if (peer.agrees) void this.converse(peer, true)
    this.options.changed()
  }

  /**
   * Asks for a new agreement with this partner, with these sizes from now on; without sizes, as things are (a renewal, also
   * of one that was ended). Made now if it is on line, else when it comes.
   * @returns whether it is on line
   */
  async ask(partner: Buffer, sizes: { holds?: number; wants?: number }): Promise<boolean> {
    await this.change(partner, ({ refused: _, ...pact }) => {
      return { ...pact, asks: { ...pact.asks, ...sizes, anew: true } }
    })
    const peer = this.peer(partner)
    if (peer) await this.converse(peer, true)
    return peer !== undefined
  }

  /** @returns whether the partner is on line and is told now. @throws KithError notFound */
  async end(partner: Buffer): Promise<boolean> {
    const pact = await this.change(partner, (before) => negotiation.end(this.scene(partner), before))
    this.options.changed()
    const peer = this.peer(partner)
    if (!peer || !pact.ending) return false
    return peer.request('pactEnd', { ending: pact.ending.bytes }).then(
      () => true,
      // It learns of it at the next comparison.
      () => false,
    )
  }

  /** Answers a partner's messages about agreements. */
  answersFor(partner: Buffer): AnswerPacts {
    return {
      newest: async ({ number }) => negotiation.newestAfter(this.pact(partner), number),
      terms: async () => negotiation.wishes(this.pact(partner), this.scene(partner).policy),
      offer: ({ offer }) => this.onOffer(partner, offer),
      end: ({ ending }) => this.onEnd(partner, ending),
    }
  }

  private async onOffer(partner: Buffer, offer: Buffer) {
    const id = partner.toString('hex')
    const isBusy = this.offering.has(id) || !this.limiter.take(id)
    this.options.log.debug({ peer: id }, 'agreement asked for')
    let answer: Replies['pactOffer'] = { kind: 'declined', reason: 'busy' }
    await this.change(partner, (before) => {
      const decided = negotiation.onOffer(this.scene(partner), before, offer, isBusy)
      answer = decided.answer
      return decided.pact
    })
    this.options.log.debug({ peer: id, answer: answer.kind }, 'agreement answered')
    return answer
  }

  private async onEnd(partner: Buffer, ending: Buffer) {
    await this.change(partner, (before) => negotiation.onEnding(this.scene(partner), before, ending))
    return {}
  }

  /** Brings both to the same document, and proposes what is wanted. Never throws. */
  private converse(peer: Peer, own: boolean, sought = false): Promise<void> {
    const running = this.running.get(peer)
    if (running) {
      running.again = true
      running.own ||= own
      running.sought ||= sought
      return running.done
    }
    const talk: Talk = { again: true, own, sought, done: Promise.resolve() }
    this.running.set(peer, talk)
    talk.done = this.talk(peer, talk).finally(() => this.running.delete(peer))
    return talk.done
  }

  private async talk(peer: Peer, talk: Talk): Promise<void> {
    try {
      while (talk.again && !this.stopped && !peer.closed) {
        talk.again = false
        await this.compare(peer)
        const { document, offer } = this.pact(peer.key)
        if (talk.sought || document || offer || this.isFriend(peer.key)) await this.propose(peer, talk)
      }
      this.tries.delete(peer)
    } catch (error) {
      if (this.stopped || peer.closed) return
      const { message } = asKithError(error)
      this.options.log.warn({ peer: peer.key.toString('hex'), reason: message }, 'no agreement was made')
      this.later(peer, talk)
    }
  }

  /** Tries again after a while that doubles. After offers that crossed, the larger key lets the smaller go first. */
  private later(peer: Peer, { own, sought }: Talk): void {
    const tries = this.tries.get(peer) ?? 0
    const first = this.isFirst(peer) ? againFirstMs : againSecondMs
    this.tries.set(peer, tries + 1)
    this.options.clock.after(Math.min(first * 2 ** tries, tickMs), () => {
      if (!this.stopped && !peer.closed) void this.converse(peer, own, sought)
    })
  }

  private async compare(peer: Peer): Promise<void> {
    const { document } = this.pact(peer.key)
    const newest = await peer.request('pactNewest', { number: document?.agreement.number ?? 0 })
    await this.change(peer.key, (pact) => negotiation.onNewest(this.scene(peer.key), pact, newest))
  }

  private async propose(peer: Peer, talk: Talk): Promise<void> {
    const { key } = peer
    for (let round = 0; round < maxRounds && !this.stopped; round++) {
      const { asks, offer } = this.pact(key)
      if (!this.isFirst(peer) && !talk.own && !asks.anew && !offer) return
      const theirs = await peer.request('pactTerms', {})
      const pact = await this.change(
        key,
        (before) => negotiation.nextOffer(this.scene(key), before, theirs) ?? before,
      )
      if (!pact.offer) return
      const answer = await this.offer(peer, pact.offer.bytes)
      if (answer.kind !== 'declined') continue
      if (!negotiation.isPassing(answer.reason)) return
      throw new KithError('busy', `the partner declined for now: ${reasonTexts[answer.reason]}`)
    }
  }

  private async offer(peer: Peer, offer: Buffer): Promise<Replies['pactOffer']> {
    const id = peer.key.toString('hex')
    const { log } = this.options
    this.offering.add(id)
    try {
      log.debug({ peer: id }, 'agreement offered')
      const answer = await peer.request('pactOffer', { offer })
      log.debug({ peer: id, answer: answer.kind }, 'agreement answered by the partner')
      await this.change(peer.key, (pact) => negotiation.onAnswer(this.scene(peer.key), pact, answer))
      return answer
    } finally {
      this.offering.delete(id)
    }
  }

  /** By the minute: counts notices, and tries again what came to nothing or is due. */
  private async tick(): Promise<void> {
    const now = this.options.tickClock.monotonic()
    const ms = Math.max(0, Math.floor(now - this.tickedAt))
    this.tickedAt = now
    for (const [id, pact] of this.pacts) {
      if (this.stopped) return
      if (pact.document) await this.count(Buffer.from(id, 'hex'), ms)
    }
    for (const peer of this.options.members()) {
      const { offer, document } = this.pact(peer.key)
      const isOpen = offer !== undefined || this.standing(peer.key) !== 'active'
      if (peer.agrees && (isOpen || document?.agreement.until !== 0)) void this.converse(peer, false)
    }
    if (!this.stopped) this.timer = this.nextTick()
  }

  private nextTick(): Timer {
    return this.options.tickClock.after(tickMs, () => (this.ticking = this.tick()))
  }

  /** What is held goes within the step, so that nothing that a new agreement brings goes with it. */
  private async count(partner: Buffer, ms: number): Promise<void> {
    const step = async () => {
      const { pact, free } = negotiation.passed(this.scene(partner), this.pact(partner), ms)
      await this.store(partner, pact)
      if (!free) return
      await this.options.free(partner)
      await this.store(partner, { ...pact, freed: true })
      this.options.log.info(
        { peer: partner.toString('hex') },
        'the notice is over: what was held is let go of',
      )
    }
    try {
      await this.alone(partner, step)
    } catch (error) {
      this.options.log.warn({ peer: partner.toString('hex'), err: error }, 'counting a notice failed')
    }
  }

  /** Durable when it resolves. */
  private change(partner: Buffer, how: (pact: Pact) => Pact): Promise<Pact> {
    return this.alone(partner, async () => {
      const after = how(this.pact(partner))
      await this.store(partner, after)
      return after
    })
  }

  /** One step of a pair at a time. */
  private alone<T>(partner: Buffer, step: () => Promise<T>): Promise<T> {
    const id = partner.toString('hex')
    const done = (this.steps.get(id) ?? Promise.resolve()).then(step)
    const settled = done.then(
      () => undefined,
      () => undefined,
    )
    this.steps.set(id, settled)
    void settled.then(() => {
      if (this.steps.get(id) === settled) this.steps.delete(id)
    })
    return done
  }

  private async store(partner: Buffer, after: Pact): Promise<void> {
    const before = this.pact(partner)
    if (after === before) return
    // Strangers leave no trace by what they ask for.
    if (before === noPact && !after.document && !after.offer && !this.isFriend(partner)) return
    const isNew = after.document !== before.document
    // First: what is taken to be lost is asked for again, but what is taken to be there is not.
    if (isNew && this.isOver(partner)) await this.options.renewed(partner)
    await this.options.db.transaction(() => this.table.put(partner, encodePact(after)))
    this.pacts.set(partner.toString('hex'), after)
    if (isNew || after.ending !== before.ending) {
      const { number } = after.document?.agreement ?? {}
      const what = after.ending ? 'agreement ended' : 'agreement made'
      this.options.log.info({ peer: partner.toString('hex'), number }, what)
      this.options.changed()
    }
  }

  private isFriend(partner: Buffer): boolean {
    return this.options.isFriend?.(partner) ?? true
  }

  /** Of two that meet, the one with the smaller key proposes. */
  private isFirst({ key }: Peer): boolean {
    return Buffer.compare(this.self, key) < 0
  }

  private get self(): Buffer {
    return this.options.self.publicKey
  }

  private pact(partner: Buffer): Pact {
    return this.pacts.get(partner.toString('hex')) ?? noPact
  }

  private standing(partner: Buffer): Standing {
    return negotiation.standing(this.pact(partner), this.options.clock.now())
  }

  private peer(partner: Buffer): Peer | undefined {
    return this.options.members().find((peer) => peer.agrees && peer.key.equals(partner))
  }

  private scene(partner: Buffer): Scene {
    const { self, clock } = this.options
    const policy = this.options.policy(partner)
    const { holds, wants } = this.pact(partner).asks
    const now = Math.max(0, Math.round(clock.now()))
    const terms = { ...policy.terms, holds: holds ?? policy.terms.holds }
    const { matched, ...free } = policy
    const isAsked = holds !== undefined || wants !== undefined
    const matching = matched && !isAsked ? { matched } : {}
    return { self, partner, policy: { ...free, ...matching, terms, wants: wants ?? policy.wants }, now }
  }
}

const reasonTexts: Record<DeclineReason, string> = {
  busy: 'it came at the same time as another',
  ended: 'the last agreement was ended there (kith agreement renew, by who ended it)',
  tooLittle: 'it offers less space than is in use',
  terms: 'the terms do not fit',
  number: 'it was out of date',
  late: 'it came too late: check both clocks',
}

function days(seconds: number): string {
  const count = Math.round(seconds / 86_400)
  return count === 1 ? '1 day' : `${count} days`
}

function encodePact(pact: Pact): Buffer {
  const { asks, refused, document, ending, offer } = pact
  const flags = (pact.freed ? 1 : 0) | (refused?.byUs ? 2 : 0) | (asks.anew ? 4 : 0)
  const reason = refused ? declineReasons.indexOf(refused.reason) + 1 : 0
  const out = new Writer().u8(version).u8(flags).u8(reason).zero(1).number(pact.spent).number(pact.noticedMs)
  for (const size of [asks.holds, asks.wants]) out.number(size === undefined ? 0 : size + 1)
  writeNewest(out, { ...(document && { document: document.bytes }), ...(ending && { ending: ending.bytes }) })
  out.u16(offer?.bytes.length ?? 0)
  if (offer) out.raw(offer.bytes)
  return out.finish()
}

/** @throws KithError damaged */
function decodePact(row: Buffer): Pact {
  const from = new Reader(Buffer.from(row), 'agreement record')
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  const flags = from.u8()
  const reason = declineReasons[from.u8() - 1]
  from.zero(1)
  const [spent, noticedMs, holds, wants] = [from.number(), from.number(), from.number(), from.number()]
  const { document, ending } = readNewest(from)
  const offer = from.u16() === 0 ? undefined : from.slice(agreementBytes)
  from.end()
  return {
    spent,
    noticedMs,
    freed: (flags & 1) !== 0,
    asks: {
      ...(holds > 0 && { holds: holds - 1 }),
      ...(wants > 0 && { wants: wants - 1 }),
      ...((flags & 4) !== 0 && { anew: true }),
    },
    ...(reason && { refused: { reason, byUs: (flags & 2) !== 0 } }),
    ...(document && { document: { bytes: document, agreement: decodeAgreement(document) } }),
    ...(ending && { ending: { bytes: ending, ending: decodeEnding(ending) } }),
    ...(offer && { offer: { bytes: offer, agreement: decodeOffer(offer).agreement } }),
  }
}
