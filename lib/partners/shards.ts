/**
 * Makes shards: of a new stripe, and again on demand, since they are kept nowhere here. What is made stays in memory for a
 * while, so that one encoding serves all partners of a stripe. A shard made again has the same bytes and name (format/shard.ts).
 */
import { codeFor } from '../codes/codes.js'
import { KithError } from '../base/errors.js'
import { partnershipKey, type Identity } from '../format/keys.js'
import { sealShard, type ShardRef } from '../format/shard.js'
import { elementsOf, stripeId, type NumberedStripe, type StripeContent } from '../format/stripe.js'
import type { NamedBlock } from '../format/wire.js'
import type { Stripes } from './stripes.js'

/** Of shards, in memory at most: the last stripe always. */
const cachedBytes = 96 * 2 ** 20

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
    const elements = [...data, ...parity]
    return Promise.all(
      partners.map((partner, index) => {
        const element = elements[index] ?? Buffer.alloc(0)
        return sealShard(shardRef(this.identity, content, id, partner, index), element)
      }),
    )
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
    const known = this.made.get(stripe.number)
    const making = known ?? this.again(stripe)
    if (!known) this.remember(stripe.number, making, stripe.shards.length * stripe.elementBytes)
    const shards = await making
    if (!shards) this.made.delete(stripe.number)
    const shard = shards?.[row.index]
    return shard?.name.equals(name) ? shard.bytes : undefined
  }

  private async again(stripe: NumberedStripe): Promise<NamedBlock[] | undefined> {
    const blocks: Buffer[] = []
    for (const { name } of stripe.blocks) {
      const bytes = await this.here(name)
      if (!bytes) return undefined
      blocks.push(bytes)
    }
    return this.make(
      stripe,
      blocks,
      stripe.shards.map(({ partner }) => partner),
    )
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
