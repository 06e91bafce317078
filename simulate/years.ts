/**
 * `npm run simulate -- years`: owners and their partners over years. Each owner's data lies in stripes at partners; partners come
 * and go as in lives.ts. What an owner does is planned by the product's code, under a virtual clock: what a partner is by now
 * (planning/partner-state.ts, stepped each hour in which the owner is on line), where elements go (placement.ts), and what is made
 * again (repair.ts). Modelled are the transfers, the search for a new partner (a day), and audits of who lost its disk.
 *
 * The owner keeps none of the blocks, so that each repair fetches from others, and a stripe of which fewer than m elements exist
 * anywhere is lost. (One whose blocks are here, too, would lose something only if its own disk failed at the same time.)
 */
import { seeded } from '../lib/base/random.js'
import { weekBytes } from '../lib/format/week.js'
import { isLost, type PartnerEvent } from '../lib/planning/partner-state.js'
import { placeElements, type Shape } from '../lib/planning/placement.js'
import {
  planRepair,
  type RepairElement,
  type RepairPartner,
  type RepairPolicy,
  type RepairStripe,
} from '../lib/planning/repair.js'
import { fraction } from './blocks.js'
import {
  dayMs,
  disastersOf,
  exponential,
  type LivesOptions,
  Node,
  noticeMs,
  type Turns,
  yearMs,
} from './lives.js'
import { EventQueue } from './queue.js'
import { Courses, Watch } from './watch.js'

const hourMs = 3_600_000
export const ownerBytes = 50e9
export const stripesPerOwner = 4
/** bytes a second that an owner sends and fetches for repair */
const rate = 1e6
const searchMs = dayMs
/** from the loss of its machine to the owner's being back on another one */
const newMachineMs = 5 * dayMs
/** on average, between two looks at whether a stripe is within reach */
const lookMs = 5 * dayMs
const most = 1e15

export interface YearsOptions extends LivesOptions {
  readonly owners: number
  readonly shape: Shape
  readonly graceDays: number
  readonly auditHours: number
  readonly atOnce: RepairPolicy['atOnce']
  /** nothing is made again */
  readonly isIdle?: boolean
  /** elements are placed without regard to sites */
  readonly isBlind?: boolean
}

export interface YearsResult {
  ownerYears: number
  pairYears: number
  stripes: number
  lost: number
  /** owners that lost something */
  losers: number
  /** of the looks, those at which fewer than m elements were within reach */
  looks: number
  outOfReach: number
  /** of an owner's data, so many times over in a year */
  sent: number
  fetched: number
  remakes: number
  /** made again at once though the old holder came back in time */
  inVain: number
  /** given up: who was gone or empty, who was away for longer than its grace, who did nothing wrong */
  evicted: { failed: number; overlong: number; wrongly: number }
  /** most elements of a stripe that one disaster took */
  worstDisaster: number
  /** by the year: of the stripes, those lost by its end */
  lostBy: number[]
}

interface Pair {
  readonly node: Node
  /** as the planning sees it; what changes is put in before it is asked */
  readonly partner: { -readonly [K in keyof RepairPartner]: RepairPartner[K] }
  readonly watch: Watch
  /** of an owner's pairs, which came when */
  readonly order: number
  /** as the node is since what last happened to it */
  isAway: boolean
  /** it is stepped each hour: not plainly good */
  isOpen: boolean
}

interface Element extends RepairElement {
  holder: string | null
  state: 'held' | 'sending' | 'lacking'
  /** the holder; and while it is made again who has the old one */
  at: Node | null
  was: Node | null
}

interface Stripe extends RepairStripe {
  readonly elements: readonly Element[]
  isLost: boolean
}

interface Owner {
  readonly number: number
  pairs: Map<string, Pair>
  /** of the pairs those that are open, in their order, and some that are no more */
  open: Pair[]
  stripes: Stripe[]
  /** its own machine */
  node: Node
  turns: Turns
  /** hours up to then are done */
  doneMs: number
  isDue: boolean
  isSearching: boolean
  /** made again before its holder was given up, by that holder */
  early: Map<string, number>
  moving: { stripe: Stripe; element: Element }[]
}

type Kind = 'day' | 'look' | 'away' | 'back' | 'ends' | 'audit' | 'found' | 'arrived' | 'machine'

export function simulateYears(options: YearsOptions): YearsResult {
  return new Years(options).run()
}

class Years {
  private readonly random
  private readonly events = new EventQueue<Kind>()
  private readonly disasters
  /** all that ever were, by number */
  private readonly nodes: Node[] = []
  private readonly byId = new Map<string, Node>()
  /** names of sites, each made once */
  private readonly siteNames: string[]
  private readonly places: Node[] = []
  /** owners of what a node holds, by its number */
  private readonly held = new Map<number, Set<Owner>>()
  private readonly owners: Owner[]
  private readonly courses
  /** of catchUp, made once */
  private readonly times: number[] = []
  /** pairs so far */
  private bound = 0
  private readonly wanted: number
  private readonly bytes: number
  private readonly result: YearsResult

  constructor(private readonly options: YearsOptions) {
    const { owners, shape, seed, graceDays, sites, forMs } = options
    this.random = seeded(seed + 77)
    this.disasters = disastersOf(options)
    // Nobody promises hours, so that who is off line for a night is not missed.
    const terms = { hours: Buffer.alloc(weekBytes), grace: graceDays * 86_400, notice: noticeMs / 1000 }
    this.courses = Courses.of(terms)
    const elements = shape.data + shape.parity
    this.wanted = elements + Math.max(1, Math.round(elements / 6))
    this.bytes = ownerBytes / stripesPerOwner / shape.data
    this.siteNames = Array.from({ length: sites }, (_, site) => `site ${site}`)
    for (let place = 0; place < owners; place++) this.places.push(this.born(0, place % sites))
    this.owners = this.places.map((node, number) => this.newOwner(node, number))
    const ownerYears = (owners * forMs) / yearMs
    this.result = {
      ownerYears,
      pairYears: 0,
      stripes: owners * stripesPerOwner,
      lost: 0,
      losers: 0,
      looks: 0,
      outOfReach: 0,
      sent: 0,
      fetched: 0,
      remakes: 0,
      inVain: 0,
      evicted: { failed: 0, overlong: 0, wrongly: 0 },
      worstDisaster: 0,
      lostBy: [],
    }
  }

  run(): YearsResult {
    const { forMs } = this.options
    for (const owner of this.owners) this.begin(owner)
    let year = 1
    for (;;) {
      const event = this.events.next()
      const now = event?.at ?? Infinity
      for (; year * yearMs <= Math.min(now, forMs); year++)
        this.result.lostBy.push(this.result.lost / this.result.stripes)
      if (!event || now > forMs) break
      this.handle(event.kind, event.node, now)
    }
    const { result } = this
    for (const { pairs } of this.owners)
      for (const { watch } of pairs.values()) result.pairYears += (forMs - watch.known) / yearMs
    result.losers = this.owners.filter(({ stripes }) => stripes.some(({ isLost }) => isLost)).length
    result.sent /= ownerBytes * result.ownerYears
    result.fetched /= ownerBytes * result.ownerYears
    return result
  }

  private handle(kind: Kind, number: number, now: number): void {
    if (kind === 'away' || kind === 'back' || kind === 'ends')
      return this.happened(kind, this.nodes[number], now)
    if (kind === 'audit') return this.audited(this.nodes[number], now)
    const owner = this.owners[number]
    if (!owner) return
    if (kind === 'machine') this.newMachine(owner, now)
    else if (kind === 'look') this.look(owner, now)
    else {
      if (kind === 'day') this.later(owner.number, 'day', now + dayMs)
      if (kind === 'found') this.found(owner, now)
      if (kind === 'arrived') this.arrived(owner, now)
      this.catchUp(owner, now)
      if (owner.isDue && owner.moving.length === 0 && this.isHere(owner, now)) this.repair(owner, now)
    }
  }

  private later(number: number, kind: Kind, at: number): void {
    if (at <= this.options.forMs) this.events.add({ at, node: number, kind })
  }

  /** A node, with what will happen to it. */
  private born(now: number, site: number): Node {
    const disaster = this.disasters[site]?.find((at) => at > now) ?? Infinity
    const node = new Node(this.nodes.length, site, now, this.options, disaster)
    this.nodes.push(node)
    this.byId.set(node.id, node)
    this.held.set(node.number, new Set())
    this.later(node.number, 'ends', node.ends)
    if (node.dies !== node.ends) this.later(node.number, 'away', node.dies)
    for (const { from, until } of node.absences) {
      if (from < node.dies) this.later(node.number, 'away', from)
      if (until < node.dies) this.later(node.number, 'back', until)
    }
    return node
  }

  private newOwner(node: Node, number: number): Owner {
    const base = {
      number,
      node,
      turns: node.turnsOf(),
      pairs: new Map<string, Pair>(),
      open: [],
      stripes: [],
      moving: [],
      early: new Map<string, number>(),
    }
    return { ...base, doneMs: 0, isDue: false, isSearching: false }
  }

  private begin(owner: Owner): void {
    while (owner.pairs.size < this.wanted) this.bind(owner, 0)
    const { shape } = this.options
    const partners = [...owner.pairs.values()].map(({ partner }) => partner)
    owner.stripes = Array.from({ length: stripesPerOwner }, (_, s) => {
      const id = `${owner.number} ${s}`
      const holders = placeElements(shape.data + shape.parity, partners, { stripe: id, bytes: this.bytes })
      const elements = holders.map((holder): Element => {
        const at = holder === null ? null : this.nodeOf(holder)
        return { holder, state: 'held', at, was: null }
      })
      return { id, data: shape.data, bytes: this.bytes, isHere: false, elements, isLost: false }
    })
    this.later(owner.number, 'day', fraction(this.random) * dayMs)
    this.later(owner.number, 'look', exponential(this.random, lookMs))
  }

  private partnerOf({ id, site }: Node): RepairPartner {
    const { isBlind, availability } = this.options
    const at = isBlind ? null : (this.siteNames[site] ?? null)
    return {
      id,
      site: at,
      prefix: null,
      region: null,
      space: most,
      availability,
      state: 'good',
      online: true,
    }
  }

  /** A partner drawn by chance, of those on line. */
  private bind(owner: Owner, now: number): void {
    for (let tries = 0; tries < 100; tries++) {
      const node = this.places[Math.floor(fraction(this.random) * this.places.length)]
      if (!node || node === owner.node || owner.pairs.has(node.id) || node.isAway(now) || now >= node.ends)
        continue
      const watch = new Watch(this.courses, now)
      owner.pairs.set(node.id, {
        ...{ node, partner: this.partnerOf(node), watch, order: this.bound++ },
        ...{ isAway: false, isOpen: false },
      })
      this.held.get(node.number)?.add(owner)
      return
    }
  }

  /** What happens to a node, to all who have data there, and to the owner at its place. */
  private happened(kind: 'away' | 'back' | 'ends', node: Node | undefined, now: number): void {
    if (!node) return
    for (const owner of this.held.get(node.number) ?? []) {
      const pair = owner.pairs.get(node.id)
      if (!pair) continue
      this.catchUp(owner, now)
      if (kind === 'ends') {
        this.checkLoss(owner, node, now)
        if (node.ending === 'leaves') this.told(owner, pair, { kind: 'ended', now })
      } else if (kind === 'away') {
        const absence = node.absenceAt(now)
        if (absence?.isAnnounced) this.told(owner, pair, { kind: 'away', now, until: absence.until })
        this.told(owner, pair, { kind: 'went', now })
        if (now >= node.dies) this.checkLoss(owner, node, now)
      }
      pair.isAway = node.isAway(now)
      this.open(owner, pair)
    }
    if (kind !== 'ends') return
    if (node.ending === 'wiped')
      this.later(node.number, 'audit', now + this.auditMs() * fraction(this.random))
    const place = this.places.indexOf(node)
    if (place === -1) return
    this.places[place] = this.born(now, node.site)
    this.later(place, 'machine', now)
  }

  private auditMs(): number {
    return this.options.auditHours * hourMs
  }

  private newMachine(owner: Owner, now: number): void {
    this.catchUp(owner, now)
    owner.node = this.places[owner.number] ?? owner.node
    owner.turns = owner.node.turnsOf()
    // Nothing is seen, sent or judged until there is a new machine.
    owner.doneMs = now + newMachineMs
  }

  /** Who lost its disk fails each audit that it is asked. */
  private audited(node: Node | undefined, now: number): void {
    if (!node || now >= node.dies) return
    this.later(node.number, 'audit', now + this.auditMs())
    if (node.isAway(now)) return
    for (const owner of this.held.get(node.number) ?? []) {
      const pair = owner.pairs.get(node.id)
      if (!pair) continue
      this.catchUp(owner, now)
      if (!this.isHere(owner, now)) continue
      for (const { elements } of owner.stripes)
        for (const element of elements)
          if (element.at === node && element.state === 'held') element.state = 'lacking'
      // Once it is in grace, more of the same changes nothing.
      if (pair.watch.state === 'grace') continue
      this.told(owner, pair, { kind: 'failed', now })
      this.open(owner, pair)
      owner.isDue = true
    }
  }

  /** Whether the owner itself is on line. */
  private isHere(owner: Owner, now: number): boolean {
    return now >= owner.doneMs && owner.turns.isOnline(now) && !owner.node.isAway(now)
  }

  /** The hours since the last time in which it was on line itself, for each partner that is not plainly good. */
  private catchUp(owner: Owner, now: number): void {
    const hours = Math.floor((now - owner.doneMs) / hourMs)
    if (hours <= 0) return
    const { times } = this
    const { open } = owner
    for (let i = open.length - 1; i >= 0; i--) if (!open[i]?.isOpen) open.splice(i, 1)
    times.length = 0
    if (open.length > 0)
      for (let hour = 1; hour <= hours; hour++) {
        const at = owner.doneMs + hour * hourMs
        if (owner.turns.isOnline(at) && !owner.node.isAway(at)) times.push(at)
      }
    owner.doneMs += hours * hourMs
    // Whether a partner is there does not change in between: what happens to it catches up first.
    for (const pair of open) {
      const { watch } = pair
      const isChanged = pair.isAway === watch.online
      for (let i = isChanged ? 0 : watch.quietHours(times, 0); i < times.length && pair.isOpen;) {
        this.hour(owner, pair, times[i] ?? now)
        i++
        i += watch.quietHours(times, i)
      }
    }
  }

  /** It is stepped from now on, in the order of the owner's pairs. */
  private open({ open, pairs }: Owner, pair: Pair): void {
    if (pair.isOpen || !pairs.has(pair.node.id)) return
    pair.isOpen = true
    if (open.includes(pair)) return
    let at = open.length
    while (at > 0 && (open[at - 1]?.order ?? 0) > pair.order) at--
    open.splice(at, 0, pair)
  }

  private hour(owner: Owner, pair: Pair, now: number): void {
    const { node, watch, isAway } = pair
    const before = watch.state
    if (isAway === watch.online) {
      watch.tell({ kind: isAway ? 'went' : 'came', now })
      // Who is back early says so.
      if (!isAway) watch.tell({ kind: 'away', now, until: now })
    }
    watch.hour(now)
    // Who comes back after all, and has what it held, is taken again; it is asked at once.
    if (watch.state === 'reneged' && watch.online && node.holds(now)) watch.tell({ kind: 'passed', now })
    if (watch.state !== before) this.changed(owner, pair, now)
    if (watch.isSettled) pair.isOpen = false
  }

  private told(owner: Owner, pair: Pair, event: PartnerEvent): void {
    const before = pair.watch.state
    pair.watch.tell(event)
    if (pair.watch.state !== before) this.changed(owner, pair, event.now)
  }

  private changed(owner: Owner, pair: Pair, now: number): void {
    owner.isDue = true
    const { state } = pair.watch
    if (state === 'good') this.cameBack(owner, pair.node.id)
    if (state === 'reneged') this.evicted(pair.node, now)
    if (state === 'reneged' || state === 'leaving') this.search(owner, now)
    if (state === 'gone') this.forget(owner, pair, now)
  }

  private evicted(node: Node, now: number): void {
    const { evicted } = this.result
    const away = node.absenceAt(now)
    if (now >= node.ends) evicted.failed++
    else if (away && away.until - away.from > this.options.graceDays * dayMs) evicted.overlong++
    else evicted.wrongly++
  }

  private cameBack({ early }: Owner, id: string): void {
    this.result.inVain += early.get(id) ?? 0
    early.delete(id)
  }

  /** What it held counts as lost, as it has since it reneged. */
  private forget(owner: Owner, pair: Pair, now: number): void {
    const { node, watch } = pair
    pair.isOpen = false
    owner.early.delete(node.id)
    this.result.pairYears += (now - watch.known) / yearMs
    owner.pairs.delete(node.id)
    this.held.get(node.number)?.delete(owner)
  }

  private search(owner: Owner, now: number): void {
    if (owner.isSearching) return
    owner.isSearching = true
    this.later(owner.number, 'found', now + searchMs)
  }

  private found(owner: Owner, now: number): void {
    owner.isSearching = false
    const bound = () =>
      [...owner.pairs.values()].filter(({ watch }) => !isLost(watch) && watch.state !== 'leaving')
    for (let missing = this.wanted - bound().length; missing > 0; missing--) this.bind(owner, now)
    owner.isDue = true
  }

  private repair(owner: Owner, now: number): void {
    owner.isDue = false
    const { shape, atOnce, isIdle } = this.options
    if (isIdle) return
    const partners: RepairPartner[] = []
    for (const { node, partner, watch } of owner.pairs.values()) {
      partner.state = watch.state
      partner.online = node.isOnline(now)
      partners.push(partner)
    }
    const stripes = owner.stripes.filter(({ isLost }) => !isLost)
    const plan = planRepair(stripes, partners, { atOnce, bytes: (rate * dayMs) / 2000 })
    if (plan.noRoom + plan.noSource + plan.later > 0) owner.isDue = true
    let bytes = 0
    for (const remake of plan.remakes) {
      const stripe = stripes.find(({ id }) => id === remake.stripe)
      const element = stripe?.elements[remake.element]
      if (!stripe || !element) continue
      if (
        !this.isReadable(stripe, remake.source === 'holder' ? [element] : stripe.elements, remake.source, now)
      ) {
        owner.isDue = true
        continue
      }
      const isFirst = !owner.moving.some((other) => other.stripe === stripe) && remake.source === 'others'
      const fetched = (isFirst ? shape.data : remake.source === 'holder' ? 1 : 0) * this.bytes
      this.result.sent += this.bytes
      this.result.fetched += fetched
      this.result.remakes++
      if (remake.why === 'too few' && element.holder !== null)
        owner.early.set(element.holder, (owner.early.get(element.holder) ?? 0) + 1)
      bytes += this.bytes + fetched
      owner.moving.push({ stripe, element })
      element.was = element.at
      element.holder = remake.to
      element.at = this.nodeOf(remake.to)
      element.state = 'sending'
    }
    if (bytes > 0) this.later(owner.number, 'arrived', now + (bytes / rate) * 1000)
  }

  /** Fetches find out what is not there in truth. */
  private isReadable(stripe: Stripe, from: readonly Element[], source: string, now: number): boolean {
    const needed = source === 'holder' ? 1 : this.options.shape.data
    let there = 0
    for (const element of from) {
      const { at } = element
      if (element.state !== 'held' || !at?.isOnline(now)) continue
      if (at.holds(now)) there++
      else element.state = 'lacking'
    }
    return there >= needed && !stripe.isLost
  }

  private nodeOf(id: string): Node {
    const node = this.byId.get(id)
    if (!node) throw new Error(`there is no node ${id}`)
    return node
  }

  private arrived(owner: Owner, now: number): void {
    for (const { element } of owner.moving) {
      element.state = 'held'
      if (!element.at?.holds(now)) {
        element.at = element.was
        element.holder = element.at?.id ?? null
      }
      element.was = null
    }
    owner.moving = []
    owner.isDue = true
  }

  private checkLoss(owner: Owner, node: Node, now: number): void {
    const { data } = this.options.shape
    for (const stripe of owner.stripes) {
      if (stripe.isLost || !stripe.elements.some(({ at, was }) => at === node || was === node)) continue
      if (node.ends === this.disasters[node.site]?.find((at) => at >= now)) this.countDisaster(stripe, node)
      if (stripe.elements.filter((element) => placeOf(element)?.holds(now)).length >= data) continue
      stripe.isLost = true
      this.result.lost++
    }
  }

  private countDisaster({ elements }: Stripe, { site }: Node): void {
    const hit = elements.filter(({ at }) => at?.site === site).length
    this.result.worstDisaster = Math.max(this.result.worstDisaster, hit)
  }

  private look(owner: Owner, now: number): void {
    this.later(owner.number, 'look', now + exponential(this.random, lookMs))
    const stripe = owner.stripes[Math.floor(fraction(this.random) * owner.stripes.length)]
    if (!stripe || stripe.isLost) return
    const isThere = (element: Element) => {
      const at = placeOf(element)
      return at?.holds(now) && at.isOnline(now)
    }
    this.result.looks++
    if (stripe.elements.filter(isThere).length < this.options.shape.data) this.result.outOfReach++
  }
}

/** Where it can be read, if its holder has it. */
function placeOf({ state, at, was }: Element): Node | null {
  return state === 'held' ? at : was
}
