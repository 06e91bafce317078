/**
 * The open pool: how strangers become partners. A node may lend there (`kith offer SIZE --open`), seek there (`kith partners find
 * N`), or both. Who seeks also lends: between strangers each holds as much for the other as the other for it.
 *
 *     lend     the node is announced under at most five topics, by its key and by what it holds (meeting.ts), as long as it takes in
 *              more; each announcement is one record at some 20 DHT nodes, made again at most every five minutes (topic.ts), and
 *              withdrawn at the end
 *     look     while partners are lacking: at our meeting places, and at some of the topics by key, others each round; rounds follow
 *              after 2 s, 4 s, ... up to ten minutes (planning/search.ts), and from the beginning when a partner is lost
 *     meet     at most eight of those found are dialled, first who was found at the most of our places. The gate calls them strangers
 *              (membership.ts): what they may send is counted by the frame and byte and ends after 90 s (session.ts), who may come
 *              in is bounded by identity and network (pool-door.ts)
 *     ask      both tell what they offer; the candidate answers our sketch, proves some of what it claims (overlap.ts), and shows
 *              what its partners attest of it (attestations.ts)
 *     choose   planning/selection.ts, from those met and the partners of today; where many were found, after some rounds of meeting
 *     agree    negotiation.ts, with the bounds below. Both or neither is bound, whatever dies when; who is bound and was not heard
 *              of since dials, and so does who waits for an answer that may still come
 *
 *     better   a full set is looked at once a day, and one partner exchanged where that gains much (swaps.ts, planning/swap.ts)
 *
 * Once bound, the gate calls both members of nothing but this agreement, and all goes on as between friends.
 *
 * What one may take: an identity `newcomerBytes` at first, twice as much after each month that it is known, a fourth of it for
 * each agreement that it reneged on, never more than it holds for us; one /24 or /48 `mostOfPrefix` agreements; all strangers together the space that is lent, in
 * `2 n + 2` agreements when n are sought (a node that does not seek: as if it sought three).
 */
import type { Clock, Timer } from '../base/clock.js'
import { asKithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { randomBytes } from '../base/random.js'
import type { Replies, Requests } from '../format/wire.js'
import type { Facts } from '../format/wire-pool.js'
import { isHourIn } from '../format/week.js'
import { defaultPolicy, select } from '../planning/selection.js'
import { counts } from '../planning/partner-state.js'
import { expectedHours } from '../planning/hours.js'
import { mayChoose, nextRoundMs, whomToMeet } from '../planning/search.js'
import { entryShares, scored } from '../planning/score.js'
import { isBetter, planSwap } from '../planning/swap.js'
import { type Candidate, type Hours, type Sketch, weekHours } from '../planning/types.js'
import type { Agreements } from './agreements.js'
import type { Attestations } from './attestations.js'
import { distanceOf, prefixOf } from './distance.js'
import { Meeting, type Found } from './meeting.js'
import type { Policy } from './negotiation.js'
import { encodedSketch, type Overlap } from './overlap.js'
import type { Presences } from './presence.js'
import { PoolDoor } from './pool-door.js'
import type { Roster } from './roster.js'
import type { States } from './states.js'
import type { Swaps } from './swaps.js'
import type { Peer } from './types.js'

/** What the user wants of the pool. */
export interface PoolSettings {
  /** lends space to strangers */
  open: boolean
  /** partners wanted in all, friends among them; 0: none are sought */
  partners: number
  /** as the user calls the place of this machine; '' is not told */
  region: string
}

export interface PoolOptions {
  self: Buffer
  roster: Roster
  agreements: Agreements
  states: States
  attestations: Pick<Attestations, 'hear' | 'record'>
  presences: Presences
  overlap: Overlap
  swaps: Pick<Swaps, 'isDue' | 'looked' | 'begin' | 'follow'>
  /** bytes of room that our data takes at this partner */
  needs(partner: Buffer): number
  settings(): PoolSettings
  policy(): Omit<Policy, 'needs'>
  /** addresses of this machine */
  addresses(): string[]
  clock: Clock
  /** counts the time of partners' states */
  stateClock: Clock
  log: Log
}

/** How the search stands. */
export interface PoolState {
  /** announced now */
  isOffered: boolean
  wanted: number
  /** partners with an agreement */
  have: number
  /** met in the last round / found in it */
  met: number
  found: number
}

const mostOfPrefix = 2
/** Bytes each way that are worth an agreement between strangers. */
const leastBytes = 2 ** 20
/** While nobody is lacking, whether that is still so. */
const restMs = 60_000
const meetMs = 12_000
/** After a first refusal for having crossed, the smaller key tries again within so long. */
const agreeMs = 8000
const againMs = 15_000
/** Who claimed what it could not prove is not asked again for so long. */
const liarMs = 24 * 3_600_000
const maxTried = 4096
const monthDays = 30

/** Somebody met, since the last choice. */
interface Met {
  found: Found
  candidate: Candidate
}

export class Pool {
  private readonly door: PoolDoor
  /** Those that we dial in this round. */
  private readonly targets = new Set<string>()
  /** Until when (monotonic ms) somebody is not dialled again. */
  private readonly tried = new Map<string, number>()
  private readonly waiting = new Set<() => void>()
  private readonly meeting: Meeting
  /** By id; what they hold is said of this sketch. */
  private met: { sketch: Sketch | undefined; candidates: Map<string, Met> } = {
    sketch: undefined,
    candidates: new Map(),
  }
  /** What today's partners said of themselves last, by id. */
  private readonly told = new Map<string, Facts>()
  private timer: Timer | undefined
  private running: Promise<void> | undefined
  private rounds = 0
  private last = { met: 0, found: 0 }
  private stopped = false

  constructor(private readonly options: PoolOptions) {
    this.door = new PoolDoor(options.clock)
    this.meeting = new Meeting(options.self, options.roster, options.overlap)
  }

  /** Begins to lend and to seek, as the settings say. */
  start(): void {
    for (const key of this.options.agreements.strangers().bound) this.options.roster.seek(key)
    this.settingsChanged()
  }

  /** Resolves when no round runs any more; the roster must have been stopped. */
  async stop(): Promise<void> {
    this.stopped = true
    this.timer?.cancel()
    this.poke()
    await this.running
  }

  settingsChanged(): void {
    this.poke()
    this.hurry()
  }

  /** Looks now. */
  hurry(): void {
    this.rounds = 0
    this.schedule(0)
  }

  /** A session or an agreement came, went or changed. */
  poke(): void {
    this.follow()
    for (const check of [...this.waiting]) check()
  }

  state(): PoolState {
    const { partners: wanted } = this.options.settings()
    return {
      isOffered: this.meeting.isAnnounced,
      wanted,
      have: this.counted().length,
      ...this.last,
    }
  }

  counts(): { have: number; wanted: number } {
    return { have: this.counted().length, wanted: this.options.settings().partners }
  }

  /** Whether the partner `to` serves better than `from`, beside the others, by what was seen of both. */
  isBetter(to: Buffer, from: Buffer): boolean {
    const others = this.counted().filter((key) => !key.equals(to) && !key.equals(from))
    return isBetter(
      others.map((key) => this.known(key)),
      this.known(from),
      this.known(to),
    )
  }

  /** Whether this node has to do with strangers at all. */
  get deals(): boolean {
    const { open, partners } = this.options.settings()
    return open || partners > 0 || this.targets.size + this.options.agreements.strangers().offered.length > 0
  }

  /** Whether this peer, no member of a circle of ours, may come in. */
  welcomes(key: Buffer, host: string | undefined): boolean {
    const { agreements, roster } = this.options
    if (this.stopped) return false
    if (this.targets.has(key.toString('hex'))) return true
    if (agreements.strangers().offered.some((other) => other.equals(key))) return true
    return this.isOpen() && this.door.opens(key, host, roster.strangerCount())
  }

  /** What we would sign with somebody of no circle of ours. */
  policyFor(key: Buffer, policy: Policy): Policy {
    const { terms } = policy
    return {
      ...policy,
      terms: { ...terms, holds: Math.min(terms.holds, this.spaceFor(key)) },
      matched: { least: leastBytes },
    }
  }

  async answer({ sketch }: Requests['poolQuery']): Promise<Replies['poolQuery']> {
    return { facts: this.facts(), holds: await this.options.overlap.answer(sketch) }
  }

  // Lending

  private isOpen(): boolean {
    const { open, partners } = this.options.settings()
    const { bound } = this.options.agreements.strangers()
    return open && bound.length < 2 * (partners || 3) + 2 && this.spaceLeft() >= leastBytes
  }

  /** Of what is lent, what no stranger was promised. */
  private spaceLeft(except?: Buffer): number {
    const { agreements, policy } = this.options
    let left = policy().terms.holds
    for (const key of agreements.strangers().bound)
      if (!except?.equals(key)) left -= agreements.promised(key).ours
    return Math.max(0, left)
  }

  private spaceFor(key: Buffer): number {
    const { agreements } = this.options
    const { ours } = agreements.promised(key)
    const isTaken = ours > 0 || this.targets.has(key.toString('hex')) || this.isOpen()
    if (!isTaken || (ours === 0 && this.isPrefixFull(key))) return ours
    return Math.max(ours, Math.min(this.entrusted(key), this.spaceLeft(key)))
  }

  private isPrefixFull(key: Buffer): boolean {
    const { agreements, roster } = this.options
    const prefix = prefixOf(roster.hostOf(key))
    if (prefix === null) return false
    const { bound } = agreements.strangers()
    return bound.filter((other) => prefixOf(roster.hostOf(other)) === prefix).length >= mostOfPrefix
  }

  private entrusted(key: Buffer): number {
    const { days, reneged } = this.options.states.record(key)
    const doublings = Math.floor(days / monthDays) - 2 * reneged
    return Math.floor(defaultPolicy.newcomerBytes * 2 ** Math.max(-20, Math.min(20, doublings)))
  }

  private follow(): void {
    this.meeting.offer(!this.stopped && this.isOpen())
  }

  private facts(): Facts {
    const { terms, wants } = this.options.policy()
    const { region } = this.options.settings()
    return {
      space: Math.min(defaultPolicy.newcomerBytes, terms.holds, this.spaceLeft()),
      wants,
      hours: terms.hours,
      system: process.platform,
      architecture: process.arch,
      region,
    }
  }

  // Seeking

  private lacking(): number {
    return this.options.settings().partners - this.counted().length
  }

  /** Those that hold something for us, and did not renege on it. */
  private counted(): Buffer[] {
    const { agreements, states } = this.options
    return agreements.active().filter((key) => counts(states.get(key)))
  }

  private schedule(ms: number): void {
    this.timer?.cancel()
    if (this.stopped) return
    this.timer = this.options.clock.after(ms, () => {
      this.running ??= this.round().finally(() => {
        this.running = undefined
        this.schedule(this.delay())
      })
    })
  }

  private delay(): number {
    const lacking = this.lacking()
    if (lacking > 0) return nextRoundMs({ rounds: this.rounds++, vain: 0, lacking }, random32() / 2 ** 32)
    this.rounds = 0
    return restMs
  }

  private async round(): Promise<void> {
    const { agreements, roster, log, swaps } = this.options
    // What was begun is ended first: who was offered something may have signed it.
    for (const key of agreements.strangers().offered) roster.meet(key, [])
    try {
      await this.meeting.refresh()
      const isFull = this.lacking() <= 0
      if (isFull && !swaps.isDue()) return
      if (isFull) swaps.looked()
      const found = await this.meeting.look((key) => this.isWanted(key))
      const places = new Map([...found].map(([id, one]) => [id, one.places]))
      const targets = whomToMeet(places, random32).flatMap((id) => found.get(id) ?? [])
      const met = await this.meet(targets)
      this.last = { met: met.length, found: found.size }
      log.debug(this.last, 'pool: met')
      await this.ask(met, found)
      if (isFull) await this.exchange()
      else if (mayChoose({ rounds: this.rounds }, found.size)) await this.choose()
    } catch (error) {
      const { code, message } = asKithError(error)
      log.warn({ code, message }, 'a search for partners failed')
    } finally {
      this.partAll()
    }
  }

  /** Whether to meet somebody who was found; who reneged is not sought again until it is gone for a while. */
  private isWanted(key: Buffer): boolean {
    const { roster, agreements, states, clock } = this.options
    const id = key.toString('hex')
    if ((this.tried.get(id) ?? 0) > clock.monotonic() || this.met.candidates.has(id)) return false
    if (states.get(key).state === 'reneged') return false
    return !roster.isFriend(key) && agreements.promised(key).theirs === 0
  }

  /** Dials them. @returns those who are here within a while */
  private async meet(targets: readonly Found[]): Promise<Peer[]> {
    const { roster } = this.options
    for (const { key, addresses } of targets) {
      this.targets.add(key.toString('hex'))
      this.note(key, againMs)
      // It may be here already, as one that seeks.
      if (!roster.stranger(key)) roster.meet(key, addresses)
    }
    const here = () => targets.flatMap(({ key }) => roster.stranger(key) ?? [])
    await this.waitFor(() => here().length === targets.length, meetMs)
    return here()
  }

  /** Notes what those met say, and can prove. */
  private async ask(peers: readonly Peer[], found: ReadonlyMap<string, Found>): Promise<void> {
    const sketch = await this.options.overlap.sketch()
    if (this.met.sketch !== sketch) this.met = { sketch, candidates: new Map() }
    const { candidates } = this.met
    const query = { facts: this.facts(), sketch: encodedSketch(sketch) }
    await Promise.all(
      peers.map(async (peer) => {
        const id = peer.key.toString('hex')
        const one = found.get(id)
        try {
          const { facts, holds } = await peer.request('poolQuery', query)
          await this.options.attestations.hear(peer)
          const belief = holds.length > 0 ? await this.options.overlap.prove(peer, sketch, holds) : 1
          if (belief === 0) this.note(peer.key, liarMs)
          if (one)
            candidates.set(id, { found: one, candidate: this.candidate(peer.key, facts, holds, belief) })
        } catch (error) {
          this.options.log.debug({ peer: id, reason: asKithError(error).message }, 'pool: no answer')
        }
      }),
    )
  }

  private candidate(key: Buffer, facts: Facts, holds: Buffer, belief: number): Candidate {
    const { hours, space } = facts
    return {
      ...this.known(key),
      ...placeOf(facts),
      holds: holds.length > 0 ? holds : null,
      belief,
      hours: hoursOf(hours),
      space,
    }
  }

  /** What is known of somebody: for partners, what they said when they were asked last, and hours as seen, else as promised. */
  private known(key: Buffer): Candidate {
    const { roster, agreements, addresses, presences } = this.options
    const host = roster.hostOf(key)
    const rtt = roster.roundTrip(key)
    const id = key.toString('hex')
    const told = this.told.get(id)
    const promised = agreements.info(key)?.theirs.hours
    return {
      id,
      invited: false,
      holds: null,
      belief: 1,
      distance: distanceOf(host, addresses(), rtt),
      roundTrip: rtt ?? null,
      prefix: prefixOf(host),
      ...(told ? placeOf(told) : { region: null, system: null, architecture: null }),
      circles: [],
      hours: expectedHours(presences.of(key), promised ? hoursOf(promised) : null),
      bandwidth: null,
      space: agreements.promised(key).theirs,
      record: this.options.attestations.record(key),
    }
  }

  /** Chooses among all who were met since the last choice, and agrees with those chosen. */
  private async choose(): Promise<void> {
    const { log, settings } = this.options
    const { sketch, candidates } = this.taken()
    if (!sketch || candidates.size === 0) return
    // Today's partners are kept here whatever is found: this search fills places, and empties none.
    const partners = this.counted().map((key) => ({ ...this.known(key), invited: true }))
    const { chosen } = select({
      sketch,
      candidates: [...partners, ...[...candidates.values()].map(({ candidate }) => candidate)],
      current: partners.map(({ id }) => id),
      policy: { ...defaultPolicy, count: settings().partners, needs: leastBytes },
    })
    for (const { id, why } of chosen) {
      const one = candidates.get(id)
      if (!one || this.lacking() <= 0 || this.stopped) continue
      log.info({ peer: id, why }, 'pool: chosen')
      // Who was met rounds ago has gone meanwhile.
      const [peer] = await this.meet([one.found])
      if (peer) await this.agree(peer)
    }
  }

  /** Of a full set, one that is served badly by gives way to somebody much better among those met, if there is one. */
  private async exchange(): Promise<void> {
    const { swaps, states, roster, stateClock, needs } = this.options
    const { sketch, candidates } = this.taken()
    if (!sketch || candidates.size === 0) return
    const keys = this.counted()
    await Promise.all(keys.map((key) => this.askPartner(key)))
    const shares = entryShares(sketch)
    const plan = planSwap({
      members: keys.map((key) => {
        const { state, bound } = states.get(key)
        const candidate = { ...this.known(key), invited: roster.isFriend(key) }
        return { candidate, state, ageMs: stateClock.now() - bound }
      }),
      // Each is to hold as much for the other, so that our room counts, too.
      candidates: [...candidates.values()].map(({ found, candidate }) => {
        return { ...candidate, space: Math.min(candidate.space, this.spaceFor(found.key)) }
      }),
      policy: { ...defaultPolicy, needs: leastBytes },
      needs: (id) => needs(Buffer.from(id, 'hex')),
      share: (candidate) => scored(candidate, shares).share,
    })
    const one = plan && candidates.get(plan.to)
    if (!plan || !one || this.stopped) return
    await swaps.begin(plan)
    const [peer] = await this.meet([one.found])
    if (peer) await this.agree(peer)
    await swaps.follow()
  }

  /** What a partner says of itself now; who is off line, or too old to be asked, said what it said last. */
  private async askPartner(key: Buffer): Promise<void> {
    const peer = this.options.roster.peer(key)
    if (!peer) return
    try {
      const { facts } = await peer.request('poolQuery', { facts: this.facts(), sketch: Buffer.alloc(0) })
      this.told.set(key.toString('hex'), facts)
    } catch (error) {
      this.options.log.debug({ peer: key.toString('hex'), reason: asKithError(error).message }, 'not told')
    }
  }

  /** Those met since the last choice; who is met next counts for the next one. */
  private taken(): { sketch: Sketch | undefined; candidates: ReadonlyMap<string, Met> } {
    const { sketch, candidates } = this.met
    this.met = { sketch, candidates: new Map() }
    return { sketch, candidates }
  }

  private async agree(peer: Peer): Promise<void> {
    const { agreements } = this.options
    const isActive = () => agreements.promised(peer.key).theirs > 0
    if (!(await agreements.seek(peer))) await this.waitFor(() => isActive() || peer.closed, agreeMs)
  }

  private partAll(): void {
    const { agreements, roster } = this.options
    for (const id of this.targets) {
      const key = Buffer.from(id, 'hex')
      if (agreements.promised(key).theirs === 0) roster.part(key)
    }
    this.targets.clear()
  }

  private note(key: Buffer, ms: number): void {
    const id = key.toString('hex')
    const until = this.options.clock.monotonic() + ms
    this.tried.set(id, Math.max(until, this.tried.get(id) ?? 0))
    for (const oldest of this.tried.keys()) {
      if (this.tried.size <= maxTried) break
      this.tried.delete(oldest)
    }
  }

  private waitFor(isSo: () => boolean, ms: number): Promise<void> {
    return new Promise((resolve) => {
      const check = () => {
        if (!this.stopped && !isSo()) return
        timer.cancel()
        this.waiting.delete(check)
        resolve()
      }
      const timer = this.options.clock.after(ms, () => {
        this.waiting.delete(check)
        resolve()
      })
      this.waiting.add(check)
      check()
    })
  }
}

function placeOf({ region, system, architecture }: Facts) {
  return { region: region || null, system: system || null, architecture: architecture || null }
}

/** null: none are told */
function hoursOf(week: Buffer): Hours | null {
  if (week.every((byte) => byte === 0)) return null
  return Array.from({ length: weekHours }, (_, hour) =>
    isHourIn(week, Math.floor(hour / 24), hour % 24) ? 1 : 0,
  )
}

function random32(): number {
  return randomBytes(4).readUInt32LE(0)
}
