/**
 * A session: requests and replies with one partner over an authenticated Noise stream (format/wire.ts has the
 * messages). Both sides ask and answer.
 *
 * What a hostile or slow peer can cost is bounded here:
 * - Window. Each frame costs its length and `frameOverhead`; at most `windowBytes` may be under way in each direction.
 *   The receiver gives credit back when it is done with a frame, so that a slow disk there slows the sender here, and
 *   nothing piles up. A peer that sends beyond the window, or gives back more than it got, breaks the protocol.
 *   Within the window, frames wait for the stream to drain: what is encrypted early only lies in memory.
 * - At most `maxOutstanding` requests of a peer are open; beyond a rate they are put off, not refused.
 * - Requests that change the vault begin one after the other, in the order sent (so a commit answers for the puts before
 *   it). A commit goes on beside the offers and puts that follow, so that the disk that syncs does not hold up the line; a head
 *   or a drop waits for it. Requests that read run at most `readers` at a time, and one that answers with much data holds its place until
 *   the answer is on its way.
 * - A stranger of the open pool may send `strangerFrames` frames and `strangerBytes` in all, within `strangerMs`; once it is a
 *   partner, that falls away.
 * - Silence while something is due ends the session, as does a request that is open for too long.
 * No deadlock: a frame that waits for the window holds back no credit, because credit for a request is given before
 * its answer is queued.
 */
import type { NoiseStream } from 'hyperdht'
import type { Channel } from 'protomux'
import { asKithError, assert, KithError } from '../base/errors.js'
import { type Clock, sleep, type Timer } from '../base/clock.js'
import type { Log } from '../base/log.js'
import {
  decodeFrame,
  encodeCredit,
  encodeError,
  encodeHello,
  encodePut,
  encodeReply,
  encodeRequest,
  type Frame,
  type Hello,
  lendsSpace,
  makesAgreements,
  givesParts,
  hearsAbsences,
  keepsFellows,
  tellsGeneration,
  attestsRecords,
  heedsConcerns,
  provesParts,
  type NamedBlock,
  type Replies,
  type ReplyFrame,
  type RequestFrame,
  type RequestKind,
  type Requests,
  wireProtocol,
  wireVersion,
} from '../format/wire.js'
import { inParts, muxOf } from './mux.js'
import type { Peer } from './types.js'

export const windowBytes = 8 * 1024 * 1024
export const frameOverhead = 256
export const maxOutstanding = 64
export const strangerFrames = 48
export const strangerBytes = 32 * 1024
const strangerMs = 90_000
const creditStep = 256 * 1024
const readers = 4
const requestsPerSecond = 2000
const requestBurst = 4000
const helloMs = 20_000
const silenceMs = 60_000
const requestMs = 5 * 60_000
const watchMs = 5_000

/** Answers the peer's requests: Holder does it for our vault. */
export interface Answerer {
  /** @throws KithError: `protocol` ends the session, anything else is the reply */
  answer<K extends RequestKind>(kind: K, message: Requests[K]): Promise<Replies[K]>
  /** Failures other than `protocol` come with the next commit. */
  put(blocks: NamedBlock[]): Promise<void>
  /** Called before each request that changes the vault: it answers for what was put before it. */
  settle?(): Promise<void>
}

export interface SessionOptions {
  answerer: Answerer
  /** what we call ourselves, at most 64 bytes count */
  name: string
  /** whether we lend space */
  lends: boolean
  /** whether we make agreements */
  agrees?: boolean
  /** whether the peer is a stranger now, and bounded as such */
  isStranger?(): boolean
  clock: Clock
  log: Log
}

interface Asked {
  kind: RequestKind
  message: Requests[RequestKind]
  since: number
  resolve(reply: Replies[RequestKind]): void
  reject(error: Error): void
}

interface Outgoing {
  /** the frame's bytes, one after the other */
  parts: readonly Buffer[]
  cost: number
  sent?: () => void
}

const changing = new Set<RequestKind>(['offer', 'commit', 'headPut', 'release'])
const cost = (bytes: number) => bytes + frameOverhead

export class Session implements Peer {
  readonly key: Buffer
  /** Resolves when both sides said hello; rejects when the session ends before. */
  readonly ready: Promise<void>
  /** Resolves with the reason when the session is over. */
  readonly ended: Promise<string>

  private hello: Hello | undefined
  private reason: string | undefined
  private readonly channel: Channel
  private readonly asked = new Map<number, Asked>()
  private readonly slots: (() => void)[] = []
  private nextId = 1
  private readonly outbox: Outgoing[] = []
  /** What we may still send. */
  private window = windowBytes
  /** The stream has more than it can send now. */
  private isFull = false
  /** Told when that is over. */
  private readonly draining: (() => void)[] = []
  /** Of a stranger, all that came. */
  private strange = { frames: 0, bytes: 0 }
  /** What the peer has sent and we have not given back: received, and done with. */
  private received = 0
  private owed = 0
  private answering = 0
  private writes: Promise<void> = Promise.resolve()
  /** Settled when no commit is under way. */
  private commits: Promise<unknown> = Promise.resolve()
  private reading = 0
  private readonly toRead: RequestFrame[] = []
  private tokens = requestBurst
  private tokensAt: number
  private heardAt: number
  private readonly openedAt: number
  /** Since when something waits for the window or the stream; undefined: nothing does. */
  private stalledAt: number | undefined
  private watch: Timer | undefined
  private onReady: () => void = () => undefined
  private onFailed: (error: Error) => void = () => undefined
  private onEnded: (reason: string) => void = () => undefined

  constructor(
    private readonly stream: NoiseStream,
    private readonly options: SessionOptions,
  ) {
    this.key = Buffer.from(stream.remotePublicKey)
    this.openedAt = this.heardAt = this.tokensAt = options.clock.monotonic()
    this.ready = new Promise((resolve, reject) => {
      this.onReady = resolve
      this.onFailed = reject
    })
    this.ready.catch(() => undefined)
    this.ended = new Promise((resolve) => {
      this.onEnded = resolve
    })
    const channel = muxOf(stream).createChannel({
      protocol: wireProtocol,
      messages: [{ encoding: inParts, onmessage: (bytes) => this.receive(bytes) }],
      onclose: () => this.close('the connection ended'),
      ondrain: () => this.drained(),
    })
    if (channel === null) throw new KithError('busy', 'there is a session on this connection already')
    this.channel = channel
    stream.once('close', () => this.close('the connection ended'))
    channel.open()
    this.transmit([
      encodeHello({
        version: wireVersion,
        capabilities:
          provesParts |
          hearsAbsences |
          givesParts |
          keepsFellows |
          tellsGeneration |
          attestsRecords |
          heedsConcerns |
          (options.lends ? lendsSpace : 0) |
          (options.agrees ? makesAgreements : 0),
        name: options.name,
      }),
    ])
    this.watchSoon()
  }

  get name(): string {
    return this.hello?.name ?? ''
  }

  get lends(): boolean {
    return ((this.hello?.capabilities ?? 0) & lendsSpace) !== 0
  }

  get agrees(): boolean {
    return ((this.hello?.capabilities ?? 0) & makesAgreements) !== 0
  }

  get proves(): boolean {
    return ((this.hello?.capabilities ?? 0) & provesParts) !== 0
  }

  get gives(): boolean {
    return ((this.hello?.capabilities ?? 0) & givesParts) !== 0
  }

  get keepsLists(): boolean {
    return ((this.hello?.capabilities ?? 0) & keepsFellows) !== 0
  }

  get tellsGeneration(): boolean {
    return ((this.hello?.capabilities ?? 0) & tellsGeneration) !== 0
  }

  get attests(): boolean {
    return ((this.hello?.capabilities ?? 0) & attestsRecords) !== 0
  }

  get heeds(): boolean {
    return ((this.hello?.capabilities ?? 0) & heedsConcerns) !== 0
  }

  get hears(): boolean {
    return ((this.hello?.capabilities ?? 0) & hearsAbsences) !== 0
  }

  get closed(): boolean {
    return this.reason !== undefined
  }

  /** Ends the session and its connection. Open requests fail. */
  close(reason: string): void {
    if (this.reason !== undefined) return
    this.reason = reason
    this.watch?.cancel()
    const gone = new KithError('noPartners', `the connection to the partner is gone: ${reason}`)
    for (const asked of this.asked.values()) asked.reject(gone)
    this.asked.clear()
    this.toRead.length = 0
    for (const { sent } of this.outbox.splice(0)) sent?.()
    for (const free of [...this.slots.splice(0), ...this.draining.splice(0)]) free()
    this.onFailed(gone)
    this.stream.destroy()
    this.options.log.debug({ partner: this.key.toString('hex'), reason }, 'session ended')
    this.onEnded(reason)
  }

  async request<K extends RequestKind>(kind: K, message: Requests[K]): Promise<Replies[K]> {
    while (this.asked.size >= maxOutstanding && !this.closed) {
      await new Promise<void>((resolve) => this.slots.push(resolve))
    }
    if (this.reason !== undefined) throw this.goneError()
    const id = this.nextId
    this.nextId = (this.nextId % 0xffffffff) + 1
    return new Promise<Replies[K]>((resolve, reject) => {
      const since = this.options.clock.monotonic()
      this.asked.set(id, { kind, message, since, resolve: resolve as Asked['resolve'], reject })
      this.queue(encodeRequest(kind, id, message))
    })
  }

  async put(blocks: readonly NamedBlock[]): Promise<void> {
    if (this.reason !== undefined) throw this.goneError()
    await new Promise<void>((resolve) => this.queue(encodePut(blocks), resolve))
    // Who reads the next blocks then, and not before, has them sent while the processor's caches hold them.
    if (this.isFull && !this.closed) await this.drain()
    if (this.closed) throw this.goneError()
  }

  private drain(): Promise<void> {
    this.stalledAt ??= this.options.clock.monotonic()
    return new Promise((resolve) => this.draining.push(resolve))
  }

  private goneError(): KithError {
    return new KithError('noPartners', `the connection to the partner is gone: ${this.reason ?? ''}`)
  }

  // Sending

  private queue(frame: Buffer | readonly Buffer[], sent?: () => void): void {
    if (this.closed) return sent?.()
    const parts = Buffer.isBuffer(frame) ? [frame] : (frame as readonly Buffer[])
    const bytes = parts.reduce((sum, part) => sum + part.length, 0)
    this.outbox.push({ parts, cost: cost(bytes), ...(sent && { sent }) })
    this.pump()
  }

  private pump(): void {
    for (let next = this.outbox[0]; next && next.cost <= this.window && !this.isFull; next = this.outbox[0]) {
      this.outbox.shift()
      this.window -= next.cost
      this.isFull = !this.transmit(next.parts)
      next.sent?.()
    }
    if (this.outbox.length === 0 && this.draining.length === 0) this.stalledAt = undefined
    else this.stalledAt ??= this.options.clock.monotonic()
  }

  /** @returns whether the stream takes more at once; else it drains later */
  private transmit(parts: readonly Buffer[]): boolean {
    return this.channel.messages[0]?.send(parts) ?? true
  }

  private drained(): void {
    this.isFull = false
    const waiting = this.draining.splice(0)
    this.pump()
    for (const free of waiting) free()
  }

  // Receiving

  /** The peer is the one to blame for what is thrown while its frame is read. */
  private receive(bytes: Buffer): void {
    if (this.closed) return
    try {
      this.heardAt = this.options.clock.monotonic()
      if (this.options.isStranger?.()) this.countStrange(bytes.length)
      this.take(decodeFrame(bytes), cost(bytes.length))
    } catch (error) {
      this.violated(error)
    }
  }

  private countStrange(bytes: number): void {
    this.strange.frames++
    this.strange.bytes += bytes
    if (this.strange.frames > strangerFrames || this.strange.bytes > strangerBytes)
      throw broken('it sent more than a stranger may')
  }

  private violated(error: unknown): void {
    const { message, code } = asKithError(error)
    const partner = this.key.toString('hex')
    if (code === 'protocol') this.options.log.warn({ partner, reason: message }, 'session ended: violation')
    else this.options.log.error({ partner, err: error }, 'session ended: a fault of ours')
    this.close(message)
  }

  private take(frame: Frame, bytes: number): void {
    if (frame.type === 'credit') return this.credited(frame.bytes)
    if (frame.type === 'hello') return this.greeted(frame.hello)
    if (this.hello === undefined) throw broken('it did not say hello first')
    this.received += bytes
    if (this.received > windowBytes) throw broken('it sent beyond the window')
    if (frame.type === 'put') return this.change(bytes, () => this.options.answerer.put(frame.blocks))
    if (frame.type === 'request') return this.serve(frame, bytes)
    this.done(bytes)
    if (frame.type === 'reply') this.answered(frame)
    else this.failed(frame)
  }

  private greeted(hello: Hello): void {
    if (this.hello !== undefined) throw broken('it said hello twice')
    if (hello.version < 1) throw broken('an unknown version')
    this.hello = { ...hello, name: shown(hello.name) }
    this.onReady()
  }

  private credited(bytes: number): void {
    this.window += bytes
    if (bytes === 0 || this.window > windowBytes) throw broken('it gave more credit than it got')
    this.pump()
  }

  /** Done with a frame of the peer: it may send as much again. */
  private done(bytes: number): void {
    this.owed += bytes
    if (this.owed < creditStep || this.closed) return
    this.received -= this.owed
    this.transmit([encodeCredit(this.owed)])
    this.owed = 0
  }

  private settle(id: number): Asked {
    const asked = this.asked.get(id)
    if (asked === undefined) throw broken('it answered what was not asked')
    this.asked.delete(id)
    this.slots.shift()?.()
    return asked
  }

  private answered(frame: ReplyFrame): void {
    const asked = this.settle(frame.id)
    if (asked.kind !== frame.kind || !fits(asked.message, frame)) {
      asked.reject(broken('its answer does not fit the request'))
      throw broken('its answer does not fit the request')
    }
    asked.resolve(frame.message)
  }

  private failed(frame: { id: number; code: KithError['code']; text: string }): void {
    this.settle(frame.id).reject(new KithError(frame.code, `the partner refused: ${shown(frame.text)}`))
  }

  // Answering

  private serve(frame: RequestFrame, bytes: number): void {
    if (++this.answering > maxOutstanding) throw broken('too many requests at once')
    if (changing.has(frame.kind)) {
      this.change(bytes, () => this.changed(frame))
      return
    }
    // Small frames: giving their credit back before they are served keeps them from filling the window.
    this.done(bytes)
    this.toRead.push(frame)
    void this.read()
  }

  private async changed(frame: RequestFrame): Promise<void> {
    if (frame.kind !== 'commit' && frame.kind !== 'offer') await this.commits
    await this.options.answerer.settle?.()
    const answered = this.reply(frame).then((reply) => this.queue(reply, () => this.answering--))
    if (frame.kind !== 'commit') return answered
    const settled = answered.catch((error: unknown) => this.violated(error))
    this.commits = Promise.all([this.commits, settled])
  }

  /** Queues work that changes the vault. */
  private change(bytes: number, work: () => Promise<void>): void {
    this.writes = this.writes.then(async () => {
      if (this.closed) return
      try {
        await this.pace()
        await work()
        this.done(bytes)
      } catch (error) {
        this.violated(error)
      }
    })
  }

  private async read(): Promise<void> {
    if (this.reading >= readers) return
    this.reading++
    try {
      for (let frame = this.toRead.shift(); frame; frame = this.toRead.shift()) {
        await this.pace()
        const reply = await this.reply(frame)
        await new Promise<void>((resolve) => this.queue(reply, resolve))
        this.answering--
      }
    } catch (error) {
      this.violated(error)
    } finally {
      this.reading--
    }
  }

  private async reply(frame: RequestFrame): Promise<Buffer> {
    try {
      const message = await this.options.answerer.answer(frame.kind, frame.message)
      return encodeReply(frame.kind, frame.id, message)
    } catch (error) {
      const known = asKithError(error)
      if (known.code === 'protocol') throw known
      const log = { partner: this.key.toString('hex'), request: frame.kind, err: error }
      if (known.code === 'internal') this.options.log.error(log, 'a request failed')
      return encodeError(frame.id, known.code, known.code === 'internal' ? 'internal error' : known.message)
    }
  }

  /** Waits until the peer's rate allows one more. */
  private async pace(): Promise<void> {
    const { clock } = this.options
    const now = clock.monotonic()
    this.tokens = Math.min(requestBurst, this.tokens + ((now - this.tokensAt) / 1000) * requestsPerSecond) - 1
    this.tokensAt = now
    if (this.tokens < 0) await sleep(clock, Math.ceil((-this.tokens * 1000) / requestsPerSecond))
  }

  // Watching

  private watchSoon(): void {
    this.watch = this.options.clock.after(watchMs, () => {
      const reason = this.overdue(this.options.clock.monotonic())
      if (reason === undefined) this.watchSoon()
      else this.close(reason)
    })
  }

  private overdue(now: number): string | undefined {
    if (this.hello === undefined) return now - this.openedAt > helloMs ? 'no greeting came' : undefined
    if (this.options.isStranger?.() && now - this.openedAt > strangerMs) return 'a stranger stayed too long'
    // An idle peer is silent rightly: silence counts from when something became due.
    const asked = this.asked.values().next().value?.since ?? Infinity
    const due = Math.min(asked, this.stalledAt ?? Infinity)
    if (now - Math.max(this.heardAt, due) > silenceMs) return 'the partner does not answer'
    return now - asked > requestMs ? 'the partner takes too long to answer' : undefined
  }
}

function broken(what: string): KithError {
  return new KithError('protocol', `the partner broke the protocol: ${what}`)
}

/** A peer's text without control and formatting characters, which could deceive on a terminal. */
function shown(text: string): string {
  return text.replace(/\p{C}/gu, '')
}

/** Whether the reply has one answer for each name asked about. */
function fits(message: Requests[RequestKind], reply: ReplyFrame): boolean {
  const names = 'names' in message ? message.names.length : undefined
  if (reply.kind === 'offer') return reply.message.missing.length === names
  if (reply.kind === 'get') return reply.message.blocks.length === names
  if (reply.kind === 'prove') return reply.message.proofs.length === names
  if (reply.kind === 'probe')
    return 'ranges' in message && reply.message.proofs.length === message.ranges.length
  if (reply.kind === 'getParts')
    return 'parts' in message && reply.message.blocks.length === message.parts.length
  assert(names === undefined, 'requests that name blocks are answered one by one')
  return true
}
