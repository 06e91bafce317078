/**
 * Reads blocks that lie in stripes. A block is cut from the one or two data elements that hold it: of a small one only the pieces
 * around it are fetched (pieces.ts), else the element; when the partner with such an
 * element is away, slow, or does not give it as it was, the element is made from as many others as it takes: those that
 * answer first. A wrong shard counts as none, and against the partner. Blocks in no stripe come from whichever partner
 * has them (fetch.ts).
 *
 * What was read stays in memory for a while: neighbours in a stripe are read one after the other.
 */
import type { Clock, Timer } from '../base/clock.js'
import { restSlabs } from '../base/memory.js'
import { KithError } from '../base/errors.js'
import type { BlockReader } from '../blocks/block-store.js'
import { codeFor } from '../codes/codes.js'
import type { Identity } from '../format/keys.js'
import { blockName } from '../format/seal.js'
import { openShard, sealShard } from '../format/shard.js'
import { placeIn, stripeId, type NumberedStripe } from '../format/stripe.js'
import type { NamedBlock } from '../format/wire.js'
import type { Fetcher } from './fetch.js'
import { Pieces } from './pieces.js'
import { shardRef } from './shards.js'
import { neededOf, type Stripes } from './stripes.js'
import type { Damage } from './types.js'

export interface PlacedReaderOptions {
  identity: Identity
  stripes: Stripes
  fetcher: Fetcher
  clock: Clock
  /** told of a shard that a partner holds and did not give */
  onFault: (partner: Buffer, kind: Damage, shard: Buffer) => void
}

const cachedElements = 48
const slowMs = 2_000
/** After the last decoding, what it worked in goes back to the system. */
const restMs = 5_000
const stoppedError = () => new KithError('cancelled', 'reading from partners was stopped')

export class PlacedReader implements BlockReader {
  private readonly elements = new Map<string, Promise<Buffer>>()
  private readonly underWay = new Set<Gathering>()
  private readonly pieces: Pieces
  private rest: Timer | undefined
  private stopped = false

  constructor(private readonly options: PlacedReaderOptions) {
    this.pieces = new Pieces(options)
  }

  /** As Fetcher.get. @throws KithError noPartners when too few partners can be asked; damaged when what they give is */
  async get(name: Buffer): Promise<Buffer | undefined> {
    const { stripes, fetcher } = this.options
    const stripe = stripes.of(name)
    const place = stripe && placeIn(stripe, name)
    if (!stripe || !place) return fetcher.get(name)
    const { elementBytes } = stripe
    const first = Math.floor(place.offset / elementBytes)
    const last = Math.floor((place.offset + place.bytes - 1) / elementBytes)
    const wanted = Array.from({ length: last - first + 1 }, (_, i) => {
      const start = (first + i) * elementBytes
      const from = Math.max(place.offset, start) - start
      return this.range(
        stripe,
        first + i,
        from,
        Math.min(place.offset + place.bytes - start, elementBytes) - from,
      )
    })
    const block = Buffer.concat(await Promise.all(wanted))
    if (blockName(block).equals(name)) return block
    throw new KithError(
      'damaged',
      `block ${name.toString('hex').slice(0, 12)} is not what its stripe should hold`,
    )
  }

  /**
   * The shard of that element for that partner, made from what others hold. Undefined when too much of it is not to be had now.
   * @param isLost the partner that has the element itself is not asked
   */
  async remake(
    stripe: NumberedStripe,
    index: number,
    { partner, isLost }: { partner: Buffer; isLost: boolean },
  ): Promise<NamedBlock | undefined> {
    const { identity } = this.options
    try {
      const element = (await this.gather(stripe, index, { isLost, isAwaited: false }))[index]
      if (!element) throw new KithError('internal', 'a gathered element is there')
      return await sealShard(shardRef(identity, stripe, stripeId(stripe), partner, index), element)
    } catch (error) {
      const isForNow =
        error instanceof KithError && (error.code === 'noPartners' || error.code === 'cancelled')
      if (isForNow) return undefined
      throw error
    }
  }

  /** What is under way fails, and what is asked from here on. */
  stop(): void {
    this.stopped = true
    this.rest?.cancel()
    for (const gathering of this.underWay) gathering.stopWith(stoppedError())
  }

  private async gather(
    stripe: NumberedStripe,
    index: number,
    how: Readonly<{ isLost: boolean; isAwaited: boolean }>,
  ): Promise<(Buffer | undefined)[]> {
    if (this.stopped) throw stoppedError()
    const gathering = new Gathering(this.options, stripe, index, how)
    this.underWay.add(gathering)
    try {
      return await gathering.run()
    } finally {
      this.underWay.delete(gathering)
      this.rest?.cancel()
      if (!this.stopped) this.rest = this.options.clock.after(restMs, restSlabs)
    }
  }

  private async range(stripe: NumberedStripe, index: number, offset: number, bytes: number): Promise<Buffer> {
    const isKnown = this.elements.has(`${stripe.number}.${index}`)
    const part = isKnown || this.stopped ? undefined : await this.pieces.read(stripe, index, offset, bytes)
    return part ?? (await this.element(stripe, index)).subarray(offset, offset + bytes)
  }

  private element(stripe: NumberedStripe, index: number): Promise<Buffer> {
    const id = `${stripe.number}.${index}`
    const known = this.elements.get(id)
    if (known) return known
    const made = this.gather(stripe, index, { isLost: false, isAwaited: true }).then((elements) => {
      // What was decoded on the way is wanted next, as a rule.
      for (const [i, element] of elements.entries())
        if (element && i < stripe.data && i !== index)
          this.remember(`${stripe.number}.${i}`, Promise.resolve(element))
      const element = elements[index]
      if (!element) throw new KithError('internal', 'a gathered element is there')
      return element
    })
    this.remember(id, made)
    return made
  }

  private remember(id: string, element: Promise<Buffer>): void {
    this.elements.set(id, element)
    element.catch(() => this.elements.get(id) === element && this.elements.delete(id))
    for (const oldest of this.elements.keys()) {
      if (this.elements.size <= cachedElements) break
      this.elements.delete(oldest)
    }
  }
}

/** One element on its way: from its own partner, or from as many others as it takes. */
class Gathering {
  private readonly elements: (Buffer | undefined)[]
  private readonly asked = new Set<number>()
  private underWay = 0
  /** Could not be asked, and may be when they come back. */
  private readonly gone = new Set<number>()
  /** Do not have it, or not as it was. */
  private readonly bad = new Set<number>()
  private timer: Timer | undefined
  private unsubscribe: (() => void) | undefined
  private isDone = false
  private resolve: (elements: (Buffer | undefined)[]) => void = () => undefined
  private reject: (error: unknown) => void = () => undefined
  private readonly needed: number
  /** For partners to come on line. */
  private waiting: Timer | undefined
  private isTooLate = false

  constructor(
    private readonly options: PlacedReaderOptions,
    private readonly stripe: NumberedStripe,
    private readonly index: number,
    /** isLost: the partner with that very element is not asked; isAwaited: somebody waits for it */
    private readonly how: Readonly<{ isLost: boolean; isAwaited: boolean }>,
  ) {
    this.elements = stripe.shards.map(() => undefined)
    this.needed = neededOf(stripe)
    if (how.isLost) this.asked.add(index)
  }

  /** @returns elements, the wanted one among them */
  run(): Promise<(Buffer | undefined)[]> {
    const done = new Promise<(Buffer | undefined)[]>((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
    if (this.asked.has(this.index)) this.askOthers()
    else {
      this.ask(this.index)
      this.hedge()
    }
    return done
  }

  private hedge(): void {
    this.timer?.cancel()
    this.timer = this.options.clock.after(slowMs, () => {
      if (this.isDone) return
      this.revive()
      this.askOthers(1)
      if (!this.isDone) this.hedge()
    })
  }

  /** Those that were away are asked anew when they are on line now. */
  private revive(): void {
    for (const index of this.gone) {
      const partner = this.stripe.shards[index]?.partner
      if (!partner || !this.options.fetcher.canAsk(partner)) continue
      this.gone.delete(index)
      this.asked.delete(index)
    }
  }

  /** Asks the fastest of those not asked yet, so that enough are on their way, and `more` beyond. */
  private askOthers(more = 0): void {
    const { fetcher } = this.options
    const have = this.elements.filter(Boolean).length
    const isOver = this.gone.has(this.index) || this.bad.has(this.index) || this.how.isLost
    const isDirect = this.asked.has(this.index) && !isOver && !this.elements[this.index]
    const useful = this.underWay - (isDirect ? 1 : 0)
    let wanted = Math.max(this.needed - have - useful, 0) + (have + useful >= this.needed ? more : 0)
    const left = this.stripe.shards
      .map(({ partner }, i) => ({ i, score: fetcher.score(partner) }))
      .filter(({ i }) => !this.asked.has(i))
      .sort((a, b) => a.score - b.score)
    for (const { i } of left) {
      if (wanted-- <= 0) break
      this.ask(i)
    }
    if (this.underWay === 0) this.exhausted()
  }

  private ask(index: number): void {
    const { fetcher } = this.options
    const shard = this.stripe.shards[index]
    if (!shard) return
    this.asked.add(index)
    this.underWay++
    void fetcher.from(shard.partner, shard.name).then((outcome) => {
      this.underWay--
      if (this.isDone) return
      if (typeof outcome !== 'string') this.took(index, outcome)
      else {
        if (outcome === 'gone') this.gone.add(index)
        else {
          this.bad.add(index)
          this.options.onFault(shard.partner, outcome === 'wrong' ? 'wrong' : 'missing', shard.name)
        }
        this.askOthers()
      }
    })
  }

  private took(index: number, shard: Buffer): void {
    const { identity } = this.options
    const { stripe } = this
    const at = stripe.shards[index]
    if (!at) return
    try {
      this.elements[index] = openShard(shardRef(identity, stripe, stripeId(stripe), at.partner, index), shard)
    } catch (error) {
      this.bad.add(index)
      this.options.onFault(at.partner, 'wrong', at.name)
      if (!(error instanceof KithError)) return this.fail(error)
      return this.askOthers()
    }
    if (this.elements[this.index]) return this.succeed(this.elements)
    if (this.elements.filter(Boolean).length < this.needed) {
      if (this.underWay === 0) this.askOthers()
      return
    }
    this.decode()
  }

  private decode(): void {
    const { code, data, parity } = this.stripe
    const how = codeFor(code, data, parity)
    this.isDone = true
    this.stop()
    const made =
      this.index < data
        ? how.decode(this.elements)
        : how.make(this.elements, [this.index]).then(([element]) => {
            const all = [...this.elements]
            all[this.index] = element
            return all
          })
    made.then(this.resolve, this.reject)
  }

  /** Nobody is left to ask; somebody may still come on line. */
  private exhausted(): void {
    const { fetcher } = this.options
    if (this.isDone) return
    if (this.isHopeless() || this.isTooLate) return this.fail(this.tooFew())
    // Who was away when asked may have come back before that, while another one was waited for.
    this.hedge()
    this.unsubscribe ??= fetcher.onChange(() => this.again())
    const tooLate = () => {
      this.isTooLate = true
      if (this.underWay === 0 && !this.isDone) this.fail(this.tooFew())
    }
    this.waiting ??= fetcher.wait(tooLate, this.how.isAwaited)
  }

  private again(): void {
    this.revive()
    if (this.isDone || this.underWay > 0) return
    this.askOthers()
  }

  /** Those that are away do not suffice either. */
  private isHopeless(): boolean {
    const have = this.elements.filter(Boolean).length
    return have + this.gone.size < this.needed && !this.gone.has(this.index)
  }

  private tooFew(): KithError {
    const have = this.elements.filter(Boolean).length
    const { length } = this.stripe.shards
    if (this.isHopeless())
      return new KithError(
        'damaged',
        `any ${this.needed} of ${length} parts of this data are needed, and the partners that took ${this.bad.size} of them do not ` +
          'have them, or not as they were: kith repair may find it in live files',
      )
    return new KithError(
      'noPartners',
      `any ${this.needed} of the ${length} partners that hold this data are needed, and ${have} of them gave their part: ` +
        'bring more of them on line, and try again',
    )
  }

  private succeed(elements: (Buffer | undefined)[]): void {
    this.isDone = true
    this.stop()
    this.resolve(elements)
  }

  /** From outside. */
  stopWith(error: KithError): void {
    if (!this.isDone) this.fail(error)
  }

  private fail(error: unknown): void {
    this.isDone = true
    this.stop()
    this.reject(error)
  }

  private stop(): void {
    this.timer?.cancel()
    this.waiting?.cancel()
    this.unsubscribe?.()
  }
}
