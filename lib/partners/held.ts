/** What partners on line say that they have: blocks themselves, and enough shards of those that lie in stripes. */
import { randomBytes } from '../base/random.js'
import { maxAsked, nonceBytes } from '../format/wire.js'
import { neededOf, type Stripes } from './stripes.js'
import type { Peer } from './types.js'

/** For each block, whether it could be had from them now, by what they say. Asks one partner after the other. */
export async function heldBy(
  peers: readonly Peer[],
  stripes: Stripes,
  names: readonly Buffer[],
): Promise<boolean[]> {
  const held = names.map(() => false)
  const shards = new Map<number, number>()
  for (const peer of peers) {
    const wanted = new Map<string, Buffer>()
    names.forEach((name, i) => {
      const stripe = stripes.of(name)
      const shard = stripe?.shards.find(({ partner }) => partner.equals(peer.key))
      const block = stripe ? shard?.name : held[i] === true ? undefined : name
      if (block) wanted.set(block.toString('hex'), block)
    })
    const has = await said(peer, [...wanted.values()])
    const counted = new Set<number>()
    names.forEach((name, i) => {
      const stripe = stripes.of(name)
      if (!stripe) held[i] ||= has.has(name.toString('hex'))
      else if (!counted.has(stripe.number)) {
        counted.add(stripe.number)
        const shard = stripe.shards.find(({ partner }) => partner.equals(peer.key))
        if (shard && has.has(shard.name.toString('hex')))
          shards.set(stripe.number, (shards.get(stripe.number) ?? 0) + 1)
      }
    })
  }
  return names.map((name, i) => {
    const stripe = stripes.of(name)
    return stripe ? (shards.get(stripe.number) ?? 0) >= neededOf(stripe) : held[i] === true
  })
}

/** Of these, those that the peer says it has; none, when it does not answer. */
async function said(peer: Peer, names: readonly Buffer[]): Promise<Set<string>> {
  const has = new Set<string>()
  for (let at = 0; at < names.length; at += maxAsked) {
    const asked = names.slice(at, at + maxAsked)
    const answer = await peer
      .request('prove', { nonce: randomBytes(nonceBytes), names: asked })
      .catch(() => undefined)
    if (!answer) break
    asked.forEach((name, i) => answer.proofs[i] && has.add(name.toString('hex')))
  }
  return has
}
