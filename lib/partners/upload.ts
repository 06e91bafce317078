/**
 * Sends the owner's blocks to every partner on line that lends space. One flow a partner:
 *   1. ask what it holds; less than it acknowledged, or another vault than before, means that it lost something, and all is
 *      offered again: who lost a disk gets everything anew when it comes back, and not after the next audit
 *   2. blocks that an audit found missing or wrong, again
 *   3. batches of blocks in the order of their sequence numbers, from the cursor on: offer, send what is missing,
 *      commit; the cursor moves when the partner has answered that they are durable
 *   4. its shards of stripes, and pages (placement.ts), which no cursor covers: what is on the list of pending ones
 *   5. when nothing is left: the newest heads
 *   6. what the store removed before those heads were read: signed drops, in the order of the removals, from a cursor
 *   7. what could not be sent in its turn, as its bytes were not to be had (the only partner with them was away)
 * The blocks of all flows together go out no faster than the user wants (pace.ts), and are read once for flows that are near each
 * other (shared-reads.ts). Then it waits for a wake-up. The cursor in the book makes every break harmless: what was not
 * acknowledged is offered again, and costs 32 bytes a block when it did arrive. A head goes out only after all blocks that it can name.
 *
 * Drops and offers: a block that is removed and comes back has a new sequence number above every cursor, so that it is
 * offered again; the offer calls off a drop that the partner holds back. A drop names nothing that is here when it is
 * made, and one flow has one request of this kind at a time: whatever is offered after it reaches the partner after it.
 * Only a drop that was on its way when a session broke could arrive late, after the offers of the next session. So when
 * a number was used that the partner has not accepted, the next session begins with an empty drop under a higher one: the
 * late one is refused from then on as a replay. A drop whose answer was lost is made anew from the cursor, without what
 * is here by then; to drop a block twice changes nothing.
 */
import { asKithError, KithError } from '../base/errors.js'
import type { Clock, Timer } from '../base/clock.js'
import type { Log } from '../base/log.js'
import { decodeHead } from '../format/head.js'
import type { KeyPair } from '../format/hash.js'
import { maxReleaseNames } from '../format/wire-release.js'
import { maxProbed } from '../format/wire-pool.js'
import { maxAsked, maxBatchBytes, type NamedBlock } from '../format/wire.js'
import type { Book } from './book.js'
import { proven } from './overlap.js'
import type { Pace } from './pace.js'
import type { PartnerView, Placement } from './placement.js'
import { requestDrop } from './release.js'
import { SharedReads } from './shared-reads.js'
import type { OwnedBlocks, Peer, Peers } from './types.js'

export interface UploaderOptions {
  peers: Peers
  blocks: OwnedBlocks
  book: Book
  /** what else goes to whom; without it, every partner gets every block and nothing more */
  placement?: Placement
  /** signs drops */
  owner: KeyPair
  /** of all partners together */
  pace: Pace
  clock: Clock
  log: Log
}

interface Row {
  sequence: number
  name: Buffer
  bytes: number
}

const batchBlocks = 512
const batchBytes = 16 * 1024 * 1024
/** Shards, of 1 MiB at most, and pages. */
const batchShares = 16
/**
 * Blocks read ahead of being sent, since those that come from other partners take a while; and their bytes, about: what is
 * kept for long is collected late, and the collector then runs for every few MiB that are sent.
 */
const readsAtOnce = 16
const aheadBytes = 2 * 1024 * 1024
/** Small blocks go together until a message has so much: it goes out before the next block is read. */
const messageBytes = 256 * 1024
/** Blocks that one partner got and the others are about to get; as many as one batch has, or a few more. */
const sharedBytes = 16 * 1024 * 1024
/** Batches sent whose commit is not yet answered: the next is on its way while the partner's disk syncs. */
const maxUnanswered = 2
/** From one try at what was not to be had to the next; a partner that comes is reason enough, too. */
const owedMs = 5 * 60_000
const retryFirstMs = 2_000
const retryMostMs = 5 * 60_000

/** One partner's flow. */
class Flow {
  trouble: string | undefined
  private wakeUp: (() => void) | undefined
  private awake = false
  private stopped = false
  private isRetried = false
  private timer: Timer | undefined
  private delay = retryFirstMs
  /** Number of the last release that the partner had accepted when the session began. */
  private releasesThere = 0
  private readonly view: PartnerView | undefined
  private readonly blocks: OwnedBlocks
  /** Of step 4: what could not be had, and when it is tried again, monotonic. */
  private readonly sharesLeft = new Set<string>()
  private sharesNext = 0
  /** Of step 7: the name tried last, and when the next round may begin, monotonic. */
  private owedAfter: Buffer = Buffer.alloc(0)
  private owedNext = 0

  constructor(
    readonly peer: Peer,
    private readonly options: UploaderOptions,
    private readonly reads: SharedReads,
    private readonly onDone: () => void,
  ) {
    this.view = options.placement?.view(peer.key)
    this.blocks = this.view ?? options.blocks
  }

  wake(): void {
    this.awake = true
    this.wakeUp?.()
  }

  /** Somebody came who may have what was not to be had. */
  hope(): void {
    this.owedNext = 0
    this.sharesNext = 0
    this.wake()
  }

  /** The partner may take now what it refused: an agreement changed. */
  retry(): void {
    this.delay = retryFirstMs
    this.isRetried = true
    this.wake()
  }

  stop(): void {
    this.stopped = true
    this.wake()
    this.options.pace.wake()
  }

  private readonly isGone = () => this.stopped || this.peer.closed

  async run(): Promise<void> {
    let isFresh = true
    while (!this.stopped && !this.peer.closed) {
      this.awake = false
      try {
        if (isFresh) await this.compare()
        isFresh = false
        await this.sendAll()
        this.trouble = undefined
        this.delay = retryFirstMs
        this.onDone()
        await this.sleep()
      } catch (error) {
        await this.failed(error)
      }
    }
    this.timer?.cancel()
  }

  private async sendAll(): Promise<void> {
    this.reads.join()
    try {
      while (await this.step());
    } finally {
      this.reads.leave()
    }
  }

  private async failed(error: unknown): Promise<void> {
    const { code, message } = asKithError(error)
    if (this.peer.closed || this.stopped) return
    const isNews = this.trouble !== message
    this.trouble = message
    const log = { partner: this.peer.key.toString('hex'), code, err: error }
    if (code === 'internal') this.options.log.error(log, 'sending failed')
    else if (isNews) this.options.log.warn({ ...log, err: message }, 'the partner takes no blocks')
    // New blocks do not make a full or refusing partner ready: only time does, or another agreement.
    await new Promise<void>((resolve) => {
      this.timer = this.options.clock.after(this.delay, resolve)
      this.wakeUp = () => (this.stopped || this.peer.closed || this.isRetried) && resolve()
      this.wakeUp()
    })
    this.timer?.cancel()
    this.wakeUp = undefined
    this.delay = this.isRetried ? retryFirstMs : Math.min(this.delay * 2, retryMostMs)
    this.isRetried = false
  }

  private async sleep(): Promise<void> {
    if (this.awake || this.stopped) return
    await new Promise<void>((resolve) => {
      this.wakeUp = resolve
    })
    this.wakeUp = undefined
  }

  private async compare(): Promise<void> {
    const { book, clock } = this.options
    const key = this.peer.key
    const generation = await this.generation()
    const held = await this.peer.request('held', {})
    const known = book.progress(key)
    const before = book.generation(key)
    const isOther = generation !== undefined && before !== undefined && !before.equals(generation)
    if (held.bytes < known.bytesHeld || isOther) {
      if (known.cursor > 0 || known.bytesHeld > 0) await book.found(key, 'missing', [], clock.now())
      await book.restart(key)
      await this.options.placement?.restart(key)
    }
    // Not before: whatever dies in between, the next session sees it again.
    if (generation && !before?.equals(generation)) await book.setGeneration(key, generation)
    await book.counted(key, held)
    this.releasesThere = held.releaseNumber
    if (known.releaseNumber > held.releaseNumber) await this.requestDrop([])
    // Who holds nothing has nothing to drop.
    if (book.dropped(key) === undefined && known.cursor === 0 && held.blocks === 0)
      await book.setDropped(key, this.blocks.lastRemoved())
  }

  /** Of its vault: another when it was made anew; undefined when the partner is of an older kith. */
  private async generation(): Promise<Buffer | undefined> {
    if (!this.peer.tellsGeneration) return undefined
    return (await this.peer.request('generation', {})).generation
  }

  private async requestDrop(names: Buffer[]): Promise<void> {
    const { book, owner } = this.options
    await requestDrop(this.peer, owner, book, names, this.releasesThere)
  }

  /** Tells of one portion of removals up to `last`. @returns whether there were any */
  private async drop(last: number): Promise<boolean> {
    const { book } = this.options
    const { blocks } = this
    const key = this.peer.key
    const rows = blocks
      .removed(book.dropped(key) ?? 0, maxReleaseNames)
      .filter(({ number }) => number <= last)
    const newest = rows.at(-1)
    if (!newest) return false
    const names = rows.filter(({ name }) => !blocks.has(name)).map(({ name }) => name)
    if (names.length > 0) await this.requestDrop(names)
    await book.setDropped(key, newest.number)
    await blocks.removalsTold(book.droppedByAll())
    return true
  }

  /** @returns whether there may be more to do */
  private async step(): Promise<boolean> {
    const { book } = this.options
    const { blocks } = this
    const key = this.peer.key
    const again = book.resend(key, batchBlocks)
    // Read before the blocks: when none is left, then all that these heads can name was sent.
    const lastRemoved = blocks.lastRemoved()
    const heads = blocks.heads()
    if (again.length > 0) {
      await book.lacks(key, await this.send(again, await this.offer(again)))
      await this.peer.request('commit', {})
      await book.resent(key, again)
      return true
    }
    if (await this.pour()) {
      await book.counted(key, await this.peer.request('held', {}))
      return true
    }
    if (await this.sendShares()) return true
    for (const head of heads) await this.sendHead(head)
    return (await this.drop(lastRemoved)) || (await this.dropShares()) || this.sendOwed()
  }

  /** One portion of shards and pages. @returns whether there were any */
  private async sendShares(): Promise<boolean> {
    const { view } = this
    const { clock, book } = this.options
    if (!view) return false
    if (clock.monotonic() >= this.sharesNext) this.sharesLeft.clear()
    const names = view
      .pending(batchShares + this.sharesLeft.size)
      .filter((name) => !this.sharesLeft.has(name.toString('hex')))
      .slice(0, batchShares)
    if (names.length === 0) return false
    const left = await this.send(names, await this.offer(names))
    await this.peer.request('commit', {})
    await view.acknowledged(names.filter((name) => !left.some((one) => one.equals(name))))
    await book.counted(this.peer.key, await this.peer.request('held', {}))
    for (const name of left) this.sharesLeft.add(name.toString('hex'))
    if (left.length > 0) this.sharesNext = clock.monotonic() + owedMs
    return true
  }

  /** One portion of shards and pages that are needed no more. @returns whether there were any */
  private async dropShares(): Promise<boolean> {
    const names = this.view?.drops(maxReleaseNames) ?? []
    if (names.length === 0) return false
    await this.requestDrop(names)
    await this.view?.dropped(names)
    return true
  }

  /** One portion of what the partner lacks since it was not to be had. @returns whether there may be more */
  private async sendOwed(): Promise<boolean> {
    const { book, clock } = this.options
    const { blocks } = this
    const key = this.peer.key
    if (clock.monotonic() < this.owedNext) return false
    const names = book.lacking(key, batchBlocks, this.owedAfter)
    this.owedAfter = names.at(-1) ?? Buffer.alloc(0)
    if (names.length === 0) {
      this.owedNext = clock.monotonic() + owedMs
      return false
    }
    const known = names.filter((name) => blocks.has(name))
    const left = known.length > 0 ? await this.send(known, await this.offer(known)) : []
    await this.peer.request('commit', {})
    const sent = names.filter((name) => !left.some((one) => one.equals(name)))
    await book.lacksNoMore(key, sent)
    return true
  }

  /**
   * Sends all blocks after the cursor. The next batch is offered before the blocks of this one are sent, so that nobody
   * waits for the answer, which the partner gives only after its disk has synced the batch before.
   * @returns whether there were any
   */
  private async pour(): Promise<boolean> {
    const { book } = this.options
    const key = this.peer.key
    const unanswered: Promise<void>[] = []
    let cursor = book.progress(key).cursor
    const start = cursor
    let next = this.offerAfter(cursor)
    while (next.names.length > 0 && !this.stopped) {
      const { names, missing, last } = next
      next = this.offerAfter(last)
      await book.lacks(key, await this.send(names, await missing))
      cursor = last
      // What follows a batch that was refused does not move the cursor over it.
      const before = unanswered.at(-1) ?? Promise.resolve()
      const answered = Promise.all([this.peer.request('commit', {}), before]).then(() =>
        book.advance(key, last),
      )
      answered.catch(() => undefined)
      unanswered.push(answered)
      if (unanswered.length >= maxUnanswered) await unanswered.shift()
    }
    for (const answered of unanswered) await answered
    const passed = this.stopped ? cursor : (this.view?.passed(cursor) ?? cursor)
    if (passed > cursor) await book.advance(key, passed)
    return cursor > start
  }

  private offerAfter(sequence: number): { names: Buffer[]; missing: Promise<boolean[]>; last: number } {
    const rows = this.batch(sequence)
    const names = rows.map(({ name }) => name)
    const missing = names.length > 0 ? this.offer(names) : Promise.resolve([])
    missing.catch(() => undefined) // met where it is waited for
    return { names, missing, last: rows.at(-1)?.sequence ?? sequence }
  }

  private batch(after: number): Row[] {
    const rows = this.blocks.since(after, batchBlocks)
    let sum = 0
    const end = rows.findIndex(({ bytes }) => (sum += bytes) > batchBytes)
    return end < 0 ? rows : rows.slice(0, end)
  }

  /**
   * A partner may say that it has a block already: of another owner, or from before a break. That is free to say, so it counts
   * only when it has shown a random part of the block. What is not kept here cannot be judged, and is left to the audits.
   * @returns for each whether it is to be sent
   */
  private async offer(names: readonly Buffer[]): Promise<boolean[]> {
    const { missing } = await this.peer.request('offer', { names: [...names] })
    const claimed = names.flatMap((name, i) => (missing[i] ? [] : [{ name, i }]))
    for (let at = 0; at < claimed.length; at += maxProbed) {
      const asked = claimed.slice(at, at + maxProbed)
      const blocks = await Promise.all(asked.map(({ name }) => this.here(name)))
      const here = asked.flatMap(({ name, i }, n) => (blocks[n] ? [{ name, i, bytes: blocks[n] }] : []))
      const isProven = this.peer.proves ? await proven(this.peer, here) : []
      here.forEach(({ i }, n) => (missing[i] = isProven[n] !== true))
    }
    return missing
  }

  /** Our own copy, if it is here and sound. */
  private async here(name: Buffer): Promise<Buffer | undefined> {
    // What was let go of meanwhile may still lie among the shared ones.
    if (!this.blocks.has(name)) return undefined
    try {
      return await this.reads.get(name, () => this.blocks.get(name))
    } catch (error) {
      if (error instanceof KithError && error.code === 'damaged') return undefined
      throw error
    }
  }

  /** @returns those that are known here and could not be had */
  private async send(names: readonly Buffer[], missing: readonly boolean[]): Promise<Buffer[]> {
    let group: NamedBlock[] = []
    let bytes = 0
    const left: Buffer[] = []
    const wanted = names.filter((_, i) => missing[i])
    const reads: Promise<Buffer | undefined>[] = []
    // Blocks to come are taken to be as large as the last one.
    let usual = maxBatchBytes
    for (const [i, name] of wanted.entries()) {
      this.readAhead(wanted.slice(i + reads.length), reads, usual)
      const sealed = await reads.shift()
      if (sealed === undefined) {
        if (this.blocks.has(name)) left.push(Buffer.from(name))
        continue
      }
      usual = Math.max(1, sealed.length)
      const { portion } = this.options.pace
      const most = Math.min(maxBatchBytes, portion)
      if (group.length > 0 && bytes + sealed.length > most) {
        await this.put(group, bytes)
        group = []
        bytes = 0
      }
      group.push({ name, bytes: sealed })
      bytes += sealed.length
      if (group.length < maxAsked && bytes < Math.min(messageBytes, portion)) continue
      await this.put(group, bytes)
      group = []
      bytes = 0
    }
    if (group.length > 0) await this.put(group, bytes)
    return left
  }

  /**
   * Begins to read the next blocks. Those that are here are read and compared with their names together (blocks/comparisons.ts), and
   * the next ones when these are on their way; of those that are not, the next is asked for as soon as one came.
   * @param usual bytes that a block is taken to have
   */
  private readAhead(rest: readonly Buffer[], reads: Promise<Buffer | undefined>[], usual: number): void {
    const [next] = rest
    if (!next || (reads.length > 0 && this.blocks.isHere(next))) return
    const most = Math.min(readsAtOnce, Math.max(1, Math.floor(aheadBytes / usual)))
    for (const name of rest.slice(0, Math.max(0, most - reads.length))) {
      const read = this.read(name)
      read.catch(() => undefined) // met where it is waited for
      reads.push(read)
    }
  }

  private async put(group: NamedBlock[], bytes: number): Promise<void> {
    await this.options.pace.take(bytes, this.isGone)
    // Not to be taken for sent: the cursor would pass what never went out.
    if (this.stopped) throw new KithError('cancelled', 'sending was stopped')
    await this.peer.put(group)
  }

  /** A block that is gone was let go of meanwhile; one that is damaged or not kept here comes from another partner. */
  private async read(name: Buffer): Promise<Buffer | undefined> {
    const { log } = this.options
    const { blocks } = this
    const here = await this.here(name)
    if (here || !blocks.has(name)) return here
    const there = await blocks.fetch(name)
    if (!there)
      log.warn({ block: name.toString('hex').slice(0, 12) }, 'a block that is not here was not sent')
    return there
  }

  private async sendHead(bytes: Buffer): Promise<void> {
    const { book } = this.options
    const { volumeId, sequence } = decodeHead(bytes)
    if (book.head(this.peer.key, volumeId) >= sequence) return
    await this.peer.request('headPut', { head: bytes })
    await book.headStored(this.peer.key, volumeId, sequence)
  }
}

export class Uploader {
  private readonly flows = new Map<Peer, { flow: Flow; done: Promise<void> }>()
  private readonly reads = new SharedReads(sharedBytes)
  /** Bytes that a partner lacks, counted up to a sequence number. */
  private readonly pending = new Map<string, { from: number; to: number; bytes: number; removed: number }>()
  private readonly unsubscribe: () => void
  private stopped = false

  /** @param onSent called whenever a partner has everything */
  constructor(
    private readonly options: UploaderOptions,
    private readonly onSent: (peer: Peer) => void = () => undefined,
  ) {
    this.unsubscribe = options.peers.onChange(() => this.follow())
    this.follow()
  }

  /** New blocks or heads are there, or blocks to be sent again. */
  wake(): void {
    for (const { flow } of this.flows.values()) flow.wake()
  }

  /** What partners may take has changed: those that refused are asked again now. */
  retry(): void {
    for (const { flow } of this.flows.values()) flow.retry()
  }

  /** Ends all flows; resolves soon only after the sessions were closed. */
  async stop(): Promise<void> {
    this.stopped = true
    this.unsubscribe()
    const flows = [...this.flows.values()]
    for (const { flow } of flows) flow.stop()
    await Promise.all(flows.map(({ done }) => done))
  }

  /** Why the partner gets no blocks now, in words; undefined: it does. */
  trouble(partner: Buffer): string | undefined {
    for (const { flow } of this.flows.values()) if (flow.peer.key.equals(partner)) return flow.trouble
    return undefined
  }

  /** Sealed bytes in the store that the partner has not acknowledged. */
  pendingBytes(partner: Buffer): number {
    const id = partner.toString('hex')
    const { cursor } = this.options.book.progress(partner)
    const known = this.pending.get(id)
    const removed = this.options.blocks.lastRemoved()
    // What was removed may have been counted.
    const isGood = known && known.from <= cursor && known.removed === removed
    const count = isGood ? known : { from: cursor, to: cursor, bytes: 0, removed }
    this.pending.set(id, count)
    // Counted on from the last time, at both ends: a store may have millions of blocks.
    for (const row of this.rows(partner, count.from, Math.min(cursor, count.to))) count.bytes -= row.bytes
    count.from = cursor
    for (const row of this.rows(partner, Math.max(cursor, count.to), Infinity)) {
      count.bytes += row.bytes
      count.to = row.sequence
    }
    // Blocks removed from the store while they were counted leave a remainder.
    if (count.to <= cursor) Object.assign(count, { to: cursor, bytes: 0 })
    return Math.max(count.bytes, 0) + (this.options.placement?.view(partner).pendingBytes() ?? 0)
  }

  private *rows(partner: Buffer, after: number, last: number): Generator<Row> {
    const page = 1000
    const blocks = this.options.placement?.view(partner) ?? this.options.blocks
    for (let at = after; at < last;) {
      const rows = blocks.since(at, page)
      for (const row of rows) if (row.sequence <= last) yield row
      at = rows.length < page ? last : (rows.at(-1)?.sequence ?? last)
    }
  }

  private follow(): void {
    if (this.stopped) return
    const online = this.options.peers.online()
    for (const peer of online) {
      if (this.flows.has(peer) || peer.closed || !peer.lends) continue
      const flow = new Flow(peer, this.options, this.reads, () => this.onSent(peer))
      const done = flow.run().finally(() => {
        this.flows.delete(peer)
        // It may have been let in again while it ended.
        this.follow()
      })
      this.flows.set(peer, { flow, done })
      for (const other of this.flows.values()) other.flow.hope()
    }
    for (const { flow } of this.flows.values()) {
      if (!online.includes(flow.peer)) flow.stop()
      else if (flow.peer.closed) flow.wake()
    }
  }
}
