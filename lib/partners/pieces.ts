/**
 * A small part of an element, read from the partner that has it without the rest: shards are sealed in pieces of 64 KiB, each with
 * its own tag (format/shard.ts). Who reads on soon wants most of an element, so what is read in this way is bounded: when
 * it comes to a quarter of the element, the whole is fetched (placed-reader.ts). A piece is kept for a while.
 */
import type { Clock } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Identity } from '../format/keys.js'
import { openPiece, pieceBytes, piecesFor } from '../format/shard.js'
import { stripeId, type NumberedStripe } from '../format/stripe.js'
import type { Fetcher } from './fetch.js'
import { shardRef } from './shards.js'
import type { Damage } from './types.js'

export interface PiecesOptions {
  identity: Identity
  fetcher: Fetcher
  clock: Clock
  /** told of a shard of which a piece was not as it was */
  onFault: (partner: Buffer, kind: Damage, shard: Buffer) => void
}

/** Of an element, which may be read piece by piece. */
const mostShare = 4
const keptElements = 64
/** Then the element is asked for, of others too. */
const slowMs = 2_000

export class Pieces {
  /** By element, in the order of use: its pieces by number, there or on their way; undefined: not to be had. */
  private readonly kept = new Map<string, Map<number, Promise<Buffer | undefined>>>()

  constructor(private readonly options: PiecesOptions) {}

  /** Those bytes of the element; undefined: it is to be fetched whole. */
  async read(
    stripe: NumberedStripe,
    index: number,
    offset: number,
    bytes: number,
  ): Promise<Buffer | undefined> {
    const { elementBytes, number } = stripe
    const places = piecesFor(elementBytes, offset, bytes)
    const all = this.of(`${number}.${index}`)
    const missing = places.filter(({ piece }) => !all.has(piece))
    const isMuch = (all.size + missing.length) * pieceBytes * mostShare > elementBytes
    if (missing.length > 0 && isMuch) return undefined
    if (missing.length > 0) this.take(all, missing, this.fetch(stripe, index, missing))
    const found = await Promise.all(places.map(({ piece }) => all.get(piece)))
    const pieces = found.flatMap((one) => (one ? [one] : []))
    if (pieces.length < places.length) return undefined
    const from = offset - (places[0]?.piece ?? 0) * pieceBytes
    return Buffer.concat(pieces).subarray(from, from + bytes)
  }

  private of(id: string): Map<number, Promise<Buffer | undefined>> {
    const all = this.kept.get(id) ?? new Map<number, Promise<Buffer | undefined>>()
    this.kept.delete(id)
    this.kept.set(id, all)
    for (const oldest of this.kept.keys()) {
      if (this.kept.size <= keptElements) break
      this.kept.delete(oldest)
    }
    return all
  }

  private take(
    all: Map<number, Promise<Buffer | undefined>>,
    missing: readonly { piece: number }[],
    fetched: Promise<Map<number, Buffer> | undefined>,
  ): void {
    const forget = () => missing.forEach(({ piece }) => all.delete(piece))
    void fetched.then((pieces) => !pieces && forget(), forget)
    for (const { piece } of missing)
      all.set(
        piece,
        fetched.then((pieces) => pieces?.get(piece)),
      )
  }

  private async fetch(
    stripe: NumberedStripe,
    index: number,
    wanted: ReturnType<typeof piecesFor>,
  ): Promise<Map<number, Buffer> | undefined> {
    const { identity, fetcher, onFault } = this.options
    const shard = stripe.shards[index]
    if (!shard) return undefined
    const { partner, name } = shard
    const parts = wanted.flatMap(({ cipher, tag }) =>
      [cipher, tag].map(([start, end]) => ({ name, offset: start, length: end - start })),
    )
    const given = await this.inTime(fetcher.partsFrom(partner, parts))
    if (given === undefined || given === 'gone') return undefined
    const ref = shardRef(identity, stripe, stripeId(stripe), partner, index)
    try {
      const pieces = wanted.map(({ piece }, i): [number, Buffer] => {
        const [cipher, tag] = [given[2 * i], given[2 * i + 1]]
        if (!Buffer.isBuffer(cipher) || !Buffer.isBuffer(tag))
          throw new KithError('notFound', 'it is not there')
        return [piece, openPiece(ref, piece, cipher, tag)]
      })
      return new Map(pieces)
    } catch (error) {
      if (!(error instanceof KithError)) throw error
      onFault(partner, error.code === 'damaged' ? 'wrong' : 'missing', name)
      return undefined
    }
  }

  private async inTime<T>(answer: Promise<T>): Promise<T | undefined> {
    let stop = (): void => undefined
    const late = new Promise<undefined>((resolve) => {
      const timer = this.options.clock.after(slowMs, () => resolve(undefined))
      stop = () => timer.cancel()
    })
    try {
      return await Promise.race([answer, late])
    } finally {
      stop()
    }
  }
}
