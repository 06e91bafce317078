/**
 * `npm run simulate -- matching`: how well nodes find partners with whom they have data in common. Nodes join over some hours, look
 * for partners, come and go with the hours of their day, and leave for good; each plans with the code of the product: meeting
 * places and rounds (planning/search.ts), sketches (sketch.ts), selection (selection.ts). What is modelled is the DHT (pool.ts) and
 * the time that things take. An agreement binds both; a node takes in `mostAgreements`.
 *
 * A *good* partner has at least half of those of the owner's bytes that any other node has at all.
 */
import { seeded } from '../lib/base/random.js'
import { mayChoose, meetingPlaces, nextRoundMs, whomToMeet } from '../lib/planning/search.js'
import { defaultPolicy, select } from '../lib/planning/selection.js'
import { answerTo } from '../lib/planning/sketch.js'
import type { Candidate } from '../lib/planning/types.js'
import { entryWeight } from '../lib/format/sketch.js'
import { fraction } from './blocks.js'
import { announceMessages, lookupMessages, meetMessages, ModelPool } from './pool.js'
import { isOnline, type Node, population, type PopulationOptions } from './population.js'
import { type Event, EventQueue } from './queue.js'

const hourMs = 3_600_000
const mostAgreements = 12
/** Somebody gone is given up after so long, as agreements say. */
const graceMs = 6 * hourMs
/** Of those met, how many are remembered. */
const remembered = 24
const reannounceMs = 10 * 60_000
/** Nodes of which all possible partners are looked at. */
const sampled = 60
/** From a call to its answer, with hole punching; a round of dialling and asking. */
const roundTakesMs = 8000

export interface MatchingOptions extends PopulationOptions {
  /** how long is simulated */
  forMs: number
  /** no meeting places: nodes are met by chance, under topics chosen by their keys */
  byChance: boolean
}

export interface MatchingResult {
  /** of nodes there at the end: with >= 1, >= 5 good partners that are there, too */
  withOne: number
  withFive: number
  /** of a sample of nodes: for whom there are >= 1, >= 5 such at all, by trying all pairs */
  possible: { withOne: number; withFive: number }
  /** the same over time, each hour */
  hours: { hour: number; nodes: number; withOne: number; withFive: number }[]
  /** messages per node for looking and meeting, and per day of being announced */
  searchMessages: number
  standingMessagesADay: number
  /** ms from first being on line to as many partners as are wanted: median, and of 95 in 100 */
  fullMs: { median: number; ninetyFifth: number; never: number }
  /** agreements of each node, and how unevenly they are spread: 0 all the same, 1 one has all */
  loads: number[]
  gini: number
  /** partners exchanged for better ones, per node and day */
  exchangesADay: number
  /** 0..1 of its bytes that the chosen of a node have, on average */
  coverage: number
}

type Kind = 'round' | 'leave' | 'gone'

interface State {
  readonly node: Node
  readonly places: readonly string[]
  /** partners by whose choice whatever; those chosen by this node are wanted by it */
  readonly bound: Set<number>
  readonly chosen: Set<number>
  /** those to choose from, and all that were dialled: nobody is again within a day */
  readonly met: Map<number, { candidate: Candidate; bits: number }>
  readonly dialled: Map<number, number>
  firstOnline: number
  rounds: number
  vain: number
  isAnnounced: boolean
  announcedMs: number
  lastSeen: number
  messages: number
  exchanges: number
  fullAt: number
}

export function simulateMatching(options: MatchingOptions): MatchingResult {
  return new Matching(options).run()
}

class Matching {
  private readonly random
  private readonly states: State[]
  private readonly pool
  private readonly events = new EventQueue<Kind>()
  private readonly timesHeld: Map<number, number>

  constructor(private readonly options: MatchingOptions) {
    this.random = seeded(options.seed + 1)
    this.pool = new ModelPool(this.random)
    const nodes = population(options)
    this.timesHeld = timesHeld(nodes)
    this.states = nodes.map((node, n) => ({
      node,
      places: [
        ...(options.byChance ? [] : meetingPlaces(node.sketch)),
        ...[n % 16].map((shard) => `shard ${shard}`),
      ],
      bound: new Set<number>(),
      chosen: new Set<number>(),
      met: new Map<number, { candidate: Candidate; bits: number }>(),
      dialled: new Map<number, number>(),
      firstOnline: NaN,
      rounds: 0,
      vain: 0,
      isAnnounced: false,
      announcedMs: 0,
      lastSeen: 0,
      messages: 0,
      exchanges: 0,
      fullAt: NaN,
    }))
  }

  run(): MatchingResult {
    for (const [n, { node }] of this.states.entries()) {
      this.events.add({ at: node.joins, node: n, kind: 'round' })
      if (node.leaves < this.options.forMs) this.events.add({ at: node.leaves, node: n, kind: 'leave' })
    }
    const hours: MatchingResult['hours'] = []
    for (let event = this.events.next(); event && event.at < this.options.forMs; event = this.events.next()) {
      while (hours.length * hourMs < event.at) hours.push(this.count(hours.length))
      this.handle(event)
    }
    return this.result(hours)
  }

  private handle({ at, node, kind }: Event<Kind>): void {
    const state = this.state(node)
    if (kind === 'leave') this.announce(node, false, at)
    else if (kind === 'gone') this.giveUp(node)
    else if (at < state.node.leaves) this.round(node, at)
    if (kind === 'leave')
      for (const partner of state.bound) this.events.add({ at: at + graceMs, node: partner, kind: 'gone' })
  }

  private round(n: number, now: number): void {
    const state = this.state(n)
    if (!isOnline(state.node, now)) {
      this.announce(n, false, now)
      this.events.add({ at: (Math.floor(now / hourMs) + 1) * hourMs, node: n, kind: 'round' })
      return
    }
    this.announce(n, state.bound.size < mostAgreements, now)
    if (Number.isNaN(state.firstOnline)) state.firstOnline = now
    const found = this.look(n, now)
    for (const other of whomToMeet(found, this.random)) this.meet(n, other, now)
    const before = state.chosen.size
    // Whom it met before, it has judged before.
    const isBetter = found.size > 0 && mayChoose(state, found.size) && this.choose(n, now)
    state.rounds++
    state.vain = isBetter ? 0 : state.vain + 1
    if (state.chosen.size >= defaultPolicy.count && Number.isNaN(state.fullAt))
      state.fullAt = now + roundTakesMs
    if (before < defaultPolicy.count && state.chosen.size >= defaultPolicy.count) state.rounds = 0
    const lacking = defaultPolicy.count - state.chosen.size
    const wait = nextRoundMs({ rounds: state.rounds, vain: state.vain, lacking }, fraction(this.random))
    this.events.add({ at: now + roundTakesMs + wait, node: n, kind: 'round' })
  }

  /** At how many of its meeting places each other was found. */
  private look(n: number, now: number): Map<number, number> {
    const state = this.state(n)
    const isNew = (other: number) => now - (state.dialled.get(other) ?? -Infinity) > 24 * hourMs
    const found = new Map<number, number>()
    const see = (topic: string, counts: number) => {
      state.messages += lookupMessages
      for (const other of this.pool.lookup(topic))
        if (other !== n && !state.bound.has(other) && isNew(other))
          found.set(other, (found.get(other) ?? 0) + counts)
    }
    for (const place of state.places.slice(0, -1)) see(place, 1)
    for (let shards = this.options.byChance ? 4 : 1; shards > 0; shards--)
      see(`shard ${this.random() % 16}`, 0)
    return found
  }

  /** Both learn of each other, and what of its sketch the other has. */
  private meet(n: number, other: number, now: number): void {
    this.state(n).messages += meetMessages
    this.state(n).dialled.set(other, now)
    if (!isOnline(this.state(other).node, now)) return
    this.remember(n, other)
    this.remember(other, n)
  }

  private remember(n: number, other: number): void {
    const state = this.state(n)
    const candidate = this.candidate(n, other)
    state.met.set(other, { candidate, bits: bitsOf(candidate.holds) })
    if (state.met.size <= remembered) return
    // Those with the least in common go; there is no end of them.
    const held = [...state.met].filter(([id]) => !state.chosen.has(id))
    const least = held.reduce((a, b) => (b[1].bits < a[1].bits ? b : a))
    state.met.delete(least[0])
  }

  private candidate(n: number, other: number): Candidate {
    const [mine, theirs] = [this.state(n).node, this.state(other).node]
    const isNear = mine.site === theirs.site
    const isSameRegion = mine.facts.region === theirs.facts.region
    return {
      ...theirs.facts,
      holds: answerTo(mine.sketch, theirs.whole),
      distance: isNear ? 'near' : 'far',
      roundTrip: isNear ? 1 : isSameRegion ? 20 : 120,
    }
  }

  /** @returns whether the set changed */
  private choose(n: number, now: number): boolean {
    const state = this.state(n)
    const isFree = (other: number) => {
      const theirs = this.state(other)
      return state.bound.has(other) || (theirs.bound.size < mostAgreements && isOnline(theirs.node, now))
    }
    const candidates = [...state.met].filter(([other]) => isFree(other))
    const byId = new Map(candidates.map(([other, { candidate }]) => [candidate.id, other]))
    const { chosen } = select({
      sketch: state.node.sketch,
      candidates: candidates.map(([, { candidate }]) => candidate),
      current: [...state.chosen].map((other) => this.state(other).node.id),
      policy: defaultPolicy,
    })
    const wanted = new Set(chosen.flatMap(({ id }) => byId.get(id) ?? []))
    const dropped = [...state.chosen].filter((other) => !wanted.has(other))
    const added = [...wanted].filter((other) => !state.chosen.has(other))
    for (const other of dropped) this.part(n, other)
    for (const other of added) this.bind(n, other)
    state.exchanges += Math.min(dropped.length, added.length)
    return added.length > 0
  }

  private bind(n: number, other: number): void {
    this.state(n).chosen.add(other)
    this.state(n).bound.add(other)
    this.state(other).bound.add(n)
  }

  /** Ends an agreement; the other looks for somebody else when it had chosen this node, too. */
  private part(n: number, other: number): void {
    this.forget(n, other)
    if (this.forget(other, n)) this.state(other).vain = 0
  }

  private forget(n: number, other: number): boolean {
    const state = this.state(n)
    state.bound.delete(other)
    return state.chosen.delete(other)
  }

  /** Partners that left for good count as lost once the grace is over. */
  private giveUp(n: number): void {
    const state = this.state(n)
    for (const other of [...state.bound]) {
      if (this.state(other).node.leaves > this.events.now - graceMs) continue
      state.met.delete(other)
      if (this.forget(n, other)) state.rounds = state.vain = 0
    }

    if (state.chosen.size < defaultPolicy.count && this.events.now < state.node.leaves)
      this.events.add({ at: this.events.now, node: n, kind: 'round' })
  }

  private announce(n: number, on: boolean, now: number): void {
    const state = this.state(n)
    if (state.isAnnounced) state.announcedMs += now - state.lastSeen
    state.lastSeen = now
    if (on === state.isAnnounced) return
    state.isAnnounced = on
    for (const place of state.places) {
      if (on) this.pool.announce(place, n)
      else this.pool.withdraw(place, n)
      state.messages += announceMessages
    }
  }

  private count(hour: number): MatchingResult['hours'][number] {
    let [nodes, withOne, withFive] = [0, 0, 0]
    for (const [n, { node }] of this.states.entries()) {
      if (hour * hourMs < node.joins || hour * hourMs >= node.leaves) continue
      const good = this.goodPartners(n, hour * hourMs)
      nodes++
      if (good >= 1) withOne++
      if (good >= 5) withFive++
    }
    return { hour, nodes, withOne: withOne / Math.max(1, nodes), withFive: withFive / Math.max(1, nodes) }
  }

  private goodPartners(n: number, now: number): number {
    const { bound, node } = this.state(n)
    return [...bound].filter((other) => {
      return this.state(other).node.leaves > now && this.isGood(node, this.state(other).node)
    }).length
  }

  private readonly judged = new Map<string, boolean>()

  /** By true bytes, not by sketches. */
  private isGood(owner: Node, partner: Node): boolean {
    const pair = `${owner.id} ${partner.id}`
    let good = this.judged.get(pair)
    if (good === undefined) {
      const has = this.sharedOf(partner)
      let [all, common] = [0, 0]
      for (const [entry, bytes] of this.sharedOf(owner)) {
        all += bytes
        if (has.has(entry)) common += bytes
      }
      good = common >= all / 2
      this.judged.set(pair, good)
    }
    return good
  }

  private readonly shared = new Map<string, Map<number, number>>()

  /** Bytes by entry, of those that any other node has. */
  private sharedOf({ id, whole }: Node): Map<number, number> {
    let shared = this.shared.get(id)
    if (!shared) {
      const entries = whole.entries.filter((entry) => (this.timesHeld.get(entry) ?? 0) > 1)
      this.shared.set(id, (shared = new Map(entries.map((entry) => [entry, entryWeight(entry)]))))
    }
    return shared
  }

  private result(hours: MatchingResult['hours']): MatchingResult {
    const now = this.options.forMs
    const there = this.states.filter(({ node }) => node.joins < now && node.leaves >= now)
    const last = this.count(now / hourMs)
    const sum = (of: (state: State) => number, from = this.states) =>
      from.reduce((all, state) => all + of(state), 0)
    const nodeDays = sum(({ node }) => Math.max(0, Math.min(now, node.leaves) - node.joins)) / (24 * hourMs)
    const full = this.states.filter(({ fullAt }) => !Number.isNaN(fullAt))
    const waits = full.map(({ fullAt, firstOnline }) => fullAt - firstOnline).sort((a, b) => a - b)
    const loads = there.map(({ bound }) => bound.size).sort((a, b) => a - b)
    const standing = sum(({ announcedMs, places }) => (announcedMs / reannounceMs) * 40 * places.length)
    return {
      withOne: last.withOne,
      withFive: last.withFive,
      possible: this.possible(there),
      hours: [...hours, last],
      searchMessages: sum(({ messages }) => messages) / this.states.length,
      standingMessagesADay: standing / nodeDays,
      fullMs: {
        median: waits[Math.floor(waits.length / 2)] ?? NaN,
        ninetyFifth: waits[Math.floor(0.95 * waits.length)] ?? NaN,
        never: 1 - full.length / this.states.filter(({ firstOnline }) => !Number.isNaN(firstOnline)).length,
      },
      loads,
      gini: gini(loads),
      exchangesADay: sum(({ exchanges }) => exchanges) / nodeDays,
      coverage: sum((state) => this.covered(state), there) / there.length,
    }
  }

  /** What a search that met everybody would find. */
  private possible(there: readonly State[]): MatchingResult['possible'] {
    const sample = there.filter((_, i) => i % Math.ceil(there.length / sampled) === 0)
    const good = sample.map(
      ({ node }) => there.filter((other) => other.node !== node && this.isGood(node, other.node)).length,
    )
    const share = (least: number) => good.filter((count) => count >= least).length / good.length
    return { withOne: share(1), withFive: share(5) }
  }

  private covered({ node, chosen }: State): number {
    const has = new Set([...chosen].flatMap((other) => this.state(other).node.whole.entries))
    let [all, common] = [0, 0]
    for (const entry of node.whole.entries) {
      all += entryWeight(entry)
      if (has.has(entry)) common += entryWeight(entry)
    }
    return common / all
  }

  private state(n: number): State {
    const state = this.states[n]
    if (!state) throw new RangeError(`no node ${n}`)
    return state
  }
}

/** At how many nodes each entry is. */
function timesHeld(nodes: readonly Node[]): Map<number, number> {
  const times = new Map<number, number>()
  for (const { whole } of nodes)
    for (const entry of whole.entries) times.set(entry, (times.get(entry) ?? 0) + 1)
  return times
}

function bitsOf(bits: Buffer | null): number {
  let count = 0
  for (const byte of bits ?? []) for (let left = byte; left > 0; left >>= 1) count += left & 1
  return count
}

/** @param values ascending */
export function gini(values: readonly number[]): number {
  const all = values.reduce((sum, value) => sum + value, 0)
  const weighted = values.reduce((sum, value, i) => sum + value * (2 * i - values.length + 1), 0)
  return all === 0 ? 0 : weighted / (values.length * all)
}
