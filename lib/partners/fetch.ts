/**
 * Reads blocks back from whichever partners have them. Nothing is believed: a block is what its name says, or the partner
 * that gave it is told on and another one is asked.
 *
 * A block is asked from the partner that did best so far. When that one does not have it, gives a wrong one or is gone,
 * the next is asked at once; when it is only slow, the next is asked beside it, and the first right answer counts.
 * Names that are wanted at the same time go to a partner together, up to 64 in a request.
 *
 * When nobody is left to ask, it waits for one to come on line, and has them looked for every 5 s meanwhile: of a partner that was
 * away, the next dial may be minutes ahead. It waits for a minute; for 10 s when it gave up just before, and nobody has come since,
 * so that a walk over many blocks does not wait that long for each. What is wanted in the background waits for 10 s, and has nobody
 * looked for.
 */
import { KithError } from '../base/errors.js'
import { type Clock, type Timer } from '../base/clock.js'
import type { Log } from '../base/log.js'
import { blockName } from '../format/seal.js'
import type { BlockPart } from '../format/wire-parts.js'
import { maxAsked } from '../format/wire.js'
import type { Damage, Peer, Peers } from './types.js'

export interface FetcherOptions {
  peers: Peers
  clock: Clock
  log: Log
  /** told of each partner that gave a wrong block or none */
  onFault?: (partner: Buffer, kind: Damage, block?: Buffer) => void
  /** how long to wait for a partner to come on line when none is left to ask */
  patienceMs?: number | undefined
}

/** What one partner gave: the block, verified by its name, or why not. */
export type Outcome = Buffer | 'absent' | 'wrong' | 'gone'

const hedgeLeastMs = 1_000
const requestsAtOnce = 8
const defaultPatienceMs = 60_000
const shortPatienceMs = 10_000
const seekEveryMs = 5_000

/** The names asked of one partner, gathered into requests. */
class Line {
  private readonly waiting: { name: Buffer; resolve: (outcome: Outcome) => void }[] = []
  private running = 0
  private scheduled = false
  /** Moving average of a request's time. */
  averageMs = 200
  faults = 0

  constructor(
    readonly peer: Peer,
    private readonly clock: Clock,
  ) {}

  /** Lower is better. */
  get score(): number {
    return this.averageMs * (1 + this.running + this.waiting.length / maxAsked) + this.faults * 10_000
  }

  ask(name: Buffer): Promise<Outcome> {
    return new Promise((resolve) => {
      this.waiting.push({ name, resolve })
      if (this.scheduled) return
      this.scheduled = true
      queueMicrotask(() => {
        this.scheduled = false
        this.flush()
      })
    })
  }

  private flush(): void {
    while (this.waiting.length > 0 && this.running < requestsAtOnce) void this.request()
  }

  private async request(): Promise<void> {
    const asked = this.waiting.splice(0, maxAsked)
    const started = this.clock.monotonic()
    this.running++
    try {
      const { blocks } = await this.peer.request('get', { names: asked.map(({ name }) => name) })
      let later = 0
      asked.forEach((one, i) => {
        const block = blocks[i] ?? 'absent'
        if (block === 'absent') one.resolve('absent')
        else if (block !== 'later') one.resolve(blockName(block).equals(one.name) ? block : 'wrong')
        else if (++later === asked.length) asked.forEach(({ resolve }) => resolve('gone'))
        else this.waiting.push(one)
      })
    } catch {
      for (const { resolve } of asked) resolve('gone')
    } finally {
      this.running--
      this.averageMs = 0.8 * this.averageMs + 0.2 * (this.clock.monotonic() - started)
      this.flush()
    }
  }
}

/** One block's way through the partners. */
interface Search {
  name: Buffer
  tried: Set<Peer>
  underWay: number
  wrong: number
  timer: Timer | undefined
  resolve(block: Buffer | undefined): void
  reject(error: Error): void
  isDone: boolean
}

export class Fetcher {
  private readonly lines = new Map<Peer, Line>()
  private readonly wanted = new Map<string, Promise<Buffer | undefined>>()
  private readonly starved = new Set<Search>()
  private readonly unsubscribe: () => void
  private soughtAt = -Infinity
  private gaveUpAt = -Infinity

  constructor(private readonly options: FetcherOptions) {
    this.unsubscribe = options.peers.onChange(() => this.changed())
  }

  stop(): void {
    this.unsubscribe()
    for (const search of this.starved) this.giveUp(search)
  }

  /**
   * The sealed bytes, which are what the name says. Undefined: every partner on line answered that it has no such block.
   * @throws KithError `damaged` when partners had it, but none intact; `noPartners` when none could be asked
   */
  get(name: Buffer): Promise<Buffer | undefined> {
    const id = name.toString('latin1')
    const known = this.wanted.get(id)
    if (known) return known
    const block = new Promise<Buffer | undefined>((resolve, reject) => {
      const search: Search = {
        name,
        tried: new Set(),
        underWay: 0,
        wrong: 0,
        timer: undefined,
        resolve,
        reject,
        isDone: false,
      }
      this.next(search)
    }).finally(() => this.wanted.delete(id))
    this.wanted.set(id, block)
    return block
  }

  /** From this partner and no other. */
  async from(partner: Buffer, name: Buffer): Promise<Outcome> {
    const peer = this.peer(partner)
    if (!peer) return 'gone'
    const line = this.line(peer)
    const outcome = await line.ask(name)
    if (outcome === 'wrong') line.faults++
    return outcome
  }

  /**
   * Parts of blocks, from this partner and no other: what they should be is for the caller to know. At most 64, together no more than
   * the largest block. `gone`: it cannot be asked for parts.
   */
  async partsFrom(partner: Buffer, parts: BlockPart[]): Promise<(Buffer | 'absent')[] | 'gone'> {
    const peer = this.peer(partner)
    if (!peer?.gives) return 'gone'
    try {
      const { blocks } = await peer.request('getParts', { parts })
      const isSound = blocks.every(
        (bytes, i) => typeof bytes === 'string' || bytes.length === parts[i]?.length,
      )
      return isSound
        ? blocks.map((bytes) => (bytes === 'later' ? 'absent' : bytes))
        : blocks.map(() => 'absent')
    } catch {
      return 'gone'
    }
  }

  /** How well the partner does: lower is better; infinite when it is not on line. */
  score(partner: Buffer): number {
    const peer = this.peer(partner)
    return peer ? this.line(peer).score : Infinity
  }

  canAsk(partner: Buffer): boolean {
    return this.peer(partner) !== undefined
  }

  /** Calls `run` whenever a partner comes or goes. Returns what ends that. */
  onChange(run: () => void): () => void {
    return this.options.peers.onChange(run)
  }

  /**
   * Waits for partners to come on line, and has them looked for when somebody waits.
   * @param tooLate run when that took too long
   * @returns what ends it
   */
  wait(tooLate: () => void, isAwaited = true): Timer {
    const { clock, peers, patienceMs = defaultPatienceMs } = this.options
    const start = clock.monotonic()
    const isShort = !isAwaited || start - this.gaveUpAt < patienceMs
    const end = start + (isShort ? Math.min(patienceMs, shortPatienceMs) : patienceMs)
    let timer: Timer | undefined
    const step = () => {
      const now = clock.monotonic()
      if (now >= end) {
        if (isAwaited) this.gaveUpAt = now
        tooLate()
        return
      }
      if (isAwaited && now - this.soughtAt >= seekEveryMs) {
        this.soughtAt = now
        peers.hurry()
      }
      timer = clock.after(Math.min(end - now, seekEveryMs), step)
    }
    step()
    return { cancel: () => timer?.cancel() }
  }

  private peer(partner: Buffer): Peer | undefined {
    return this.options.peers.online().find((peer) => !peer.closed && peer.key.equals(partner))
  }

  private line(peer: Peer): Line {
    const line = this.lines.get(peer) ?? new Line(peer, this.options.clock)
    this.lines.set(peer, line)
    return line
  }

  /** Asks one more partner. */
  private next(search: Search): void {
    search.timer?.cancel()
    const line = this.best(search)
    if (line === undefined) {
      if (search.underWay === 0) this.exhausted(search)
      return
    }
    search.tried.add(line.peer)
    search.underWay++
    void line.ask(search.name).then((outcome) => this.outcome(search, line, outcome))
    const patience = Math.max(hedgeLeastMs, 4 * line.averageMs)
    search.timer = this.options.clock.after(patience, () => this.next(search))
  }

  private outcome(search: Search, line: Line, outcome: Outcome): void {
    search.underWay--
    if (outcome === 'wrong' || outcome === 'absent') {
      line.faults += outcome === 'wrong' ? 1 : 0.01
      search.wrong += outcome === 'wrong' ? 1 : 0
      this.fault(line.peer, outcome === 'wrong' ? 'wrong' : 'missing', search.name)
    }
    if (search.isDone) return
    if (typeof outcome === 'string') {
      this.next(search)
      return
    }
    search.isDone = true
    search.timer?.cancel()
    search.resolve(outcome)
  }

  private best(search: Search): Line | undefined {
    let best: Line | undefined
    for (const peer of this.options.peers.online()) {
      if (peer.closed || search.tried.has(peer)) continue
      const line = this.line(peer)
      if (best === undefined || line.score < best.score) best = line
    }
    return best
  }

  /** Nobody is left to ask. While nobody gave an answer at all, a partner may still come on line. */
  private exhausted(search: Search): void {
    const isAnswered = [...search.tried].some((peer) => !peer.closed)
    if (isAnswered) return this.giveUp(search)
    this.starved.add(search)
    search.timer = this.wait(() => this.giveUp(search))
  }

  private giveUp(search: Search): void {
    this.starved.delete(search)
    search.timer?.cancel()
    if (search.isDone) return
    search.isDone = true
    const short = search.name.toString('hex').slice(0, 12)
    if (search.wrong > 0) {
      search.reject(new KithError('damaged', `block ${short} is damaged at every partner that has it`))
    } else if ([...search.tried].some((peer) => !peer.closed)) search.resolve(undefined)
    else {
      search.reject(
        new KithError('noPartners', 'no partner is on line to fetch from: wait for one and try again'),
      )
    }
  }

  private changed(): void {
    this.gaveUpAt = -Infinity
    for (const peer of this.lines.keys()) if (peer.closed) this.lines.delete(peer)
    for (const search of [...this.starved]) {
      if (this.best(search) === undefined) continue
      this.starved.delete(search)
      this.next(search)
    }
  }

  private fault(peer: Peer, kind: Damage, block?: Buffer): void {
    const { log, onFault } = this.options
    const level = kind === 'missing' ? 'debug' : 'warn'
    log[level]({ partner: peer.key.toString('hex'), kind }, 'a partner did not give what it should')
    onFault?.(peer.key, kind, block)
  }
}
