/**
 * Makes shards: of a new stripe, and again on demand, since they are kept nowhere here. What is made stays in memory for a
 * while, so that one encoding serves all partners of a stripe; of an element that moves to another partner (mender.ts), that
 * one shard does. A shard made again has the same bytes and name (format/shard.ts).
 */
import { codeFor } from '../codes/codes.js'
import { KithError } from '../base/errors.js'
import { partnershipKey, type Identity } from '../format/keys.js'
import { sealShard, sealShards, type ShardRef } from '../format/shard.js'
import { elementsOf, stripeId, type NumberedStripe, type StripeContent } from '../format/stripe.js'
import { blockName } from '../format/seal.js'
import type { NamedBlock } from '../format/wire.js'
import type { Stripes } from './stripes.js'

/** Of shards, in memory at most: the last stripe always. */
const cachedBytes = 96 * 2 ** 20
/** Of shards of elements that move. */
const cachedMoves = 32

export function shardRef(
  { id, kek }: Identity,
  content: StripeContent,
  stripe: Buffer,
  partner: Buffer,
  index: number,
): ShardRef {
  const { code, elementBytes } = content
  return { key: partnershipKey(kek, partner), owner: id, partner, stripe, code, index, elementBytes }
}

export class Shards {
  private readonly made = new Map<number, Promise<NamedBlock[] | undefined>>()
  private bytes = 0
  private readonly moving = new Map<string, Buffer>()

  /** @param block the bytes of a block that is kept here; undefined when it is not, or not whole */
  constructor(
    private readonly identity: Identity,
    private readonly stripes: Stripes,
    private readonly block: (name: Buffer) => Promise<Buffer | undefined>,
  ) {}

  /** The shards of a stripe with these blocks, for these partners, by the number of the element. */
  async make(
    content: StripeContent,
    blocks: readonly Buffer[],
    partners: readonly Buffer[],
  ): Promise<NamedBlock[]> {
    const data = elementsOf(content, blocks)
    const parity = await codeFor(content.code, content.data, content.parity).encode(data)
    const id = stripeId(content)
    const refs = partners.map((partner, index) => shardRef(this.identity, content, id, partner, index))
    return sealShards(refs, [...data, ...parity])
  }

  /** Those of a stripe that was just made. */
  keep(number: number, shards: NamedBlock[]): void {
    this.remember(number, Promise.resolve(shards), shards.length * (shards[0]?.bytes.length ?? 0))
  }

  /** The shard of this name, from the blocks here; undefined when they are not all here. */
  async get(partner: Buffer, name: Buffer): Promise<Buffer | undefined> {
    const row = this.stripes.shard(partner, name)
    const stripe = row && this.stripes.get(row.number)
    if (!stripe) return undefined
    if (stripe.shards[row.index]?.name.equals(name) !== true) {
      const moving =
        this.moving.get(name.toString('hex')) ?? (await this.one(stripe, row.index, partner))?.bytes
      return moving && blockName(moving).equals(name) ? moving : undefined
    }
    const known = this.made.get(stripe.number)
    const making = known ?? this.again(stripe)
    if (!known) this.remember(stripe.number, making, stripe.shards.length * stripe.elementBytes)
    const shards = await making
    if (!shards) this.made.delete(stripe.number)
    const shard = shards?.[row.index]
    return shard?.name.equals(name) ? shard.bytes : undefined
  }

  /** The shard of one element for that partner, from the blocks here; undefined when what it takes is not all here. */
  async one(stripe: NumberedStripe, index: number, partner: Buffer): Promise<NamedBlock | undefined> {
    const element =
      index < stripe.data ? await this.dataElement(stripe, index) : await this.parity(stripe, index)
    return element && sealShard(shardRef(this.identity, stripe, stripeId(stripe), partner, index), element)
  }

  /** It is sent soon. */
  keepMoving({ name, bytes }: NamedBlock): void {
    this.moving.set(name.toString('hex'), bytes)
    for (const oldest of this.moving.keys()) {
      if (this.moving.size <= cachedMoves) break
      this.moving.delete(oldest)
    }
  }

  /** Of the blocks that it holds a part of alone. */
  private async dataElement(stripe: NumberedStripe, index: number): Promise<Buffer | undefined> {
    const element = Buffer.alloc(stripe.elementBytes)
    const start = index * stripe.elementBytes
    let offset = 0
    for (const { name, bytes } of stripe.blocks) {
      if (offset < start + element.length && offset + bytes > start) {
        const block = await this.here(name)
        if (!block) return undefined
        block.copy(element, Math.max(0, offset - start), Math.max(0, start - offset))
      }
      offset += bytes
    }
    return element
  }

  private async parity(stripe: NumberedStripe, index: number): Promise<Buffer | undefined> {
    const blocks = await this.blocksOf(stripe)
    const { code, data, parity } = stripe
    return blocks && (await codeFor(code, data, parity).encode(elementsOf(stripe, blocks)))[index - data]
  }

  private async again(stripe: NumberedStripe): Promise<NamedBlock[] | undefined> {
    const blocks = await this.blocksOf(stripe)
    const partners = stripe.shards.map(({ partner }) => partner)
    return blocks && this.make(stripe, blocks, partners)
  }

  private async blocksOf(stripe: NumberedStripe): Promise<Buffer[] | undefined> {
    const blocks: Buffer[] = []
    for (const { name } of stripe.blocks) {
      const bytes = await this.here(name)
      if (!bytes) return undefined
      blocks.push(bytes)
    }
    return blocks
  }

  /** Our own copy, if it is here and sound. */
  private async here(name: Buffer): Promise<Buffer | undefined> {
    try {
      return await this.block(name)
    } catch (error) {
      if (error instanceof KithError && error.code === 'damaged') return undefined
      throw error
    }
  }

  private remember(number: number, shards: Promise<NamedBlock[] | undefined>, bytes: number): void {
    shards.catch(() => this.made.delete(number))
    this.made.set(number, shards)
    this.bytes = bytes * this.made.size
    for (const oldest of this.made.keys()) {
      if (this.made.size === 1 || this.bytes <= cachedBytes) break
      this.made.delete(oldest)
      this.bytes = bytes * this.made.size
    }
  }
}
