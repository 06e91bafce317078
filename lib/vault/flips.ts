/**
 * The holder's side of the coin flips (format/coin.ts): at most one of an owner is open. An owner that does not like the
 * holder's answer could otherwise flip until it does; so another flip is refused until the first is revealed, or a day has
 * passed, for an owner that lost its memory. Kept in memory: a restart forgives one.
 */
import type { Clock } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import { answerTo, commitment, type Spread } from '../format/coin.js'
import { keyedHash } from '../format/hash.js'
import { generationBytes } from '../format/wire.js'

const openMs = 86_400_000

export class Flips {
  private readonly open = new Map<string, { committed: Buffer; since: number }>()

  /** @param secret 32 bytes, the same after a restart */
  constructor(
    private readonly secret: Buffer,
    private readonly clock: Clock,
  ) {}

  /**
   * @returns r2
   * @throws KithError busy while another flip of the owner is open
   */
  flip(owner: Buffer, committed: Buffer): Buffer {
    const id = owner.toString('hex')
    const now = this.clock.now()
    const open = this.open.get(id)
    const isOpen = open && now >= open.since && now - open.since < openMs
    if (isOpen && !open.committed.equals(committed)) {
      throw new KithError('busy', 'reveal the coin flip before this one first')
    }
    if (!isOpen) this.open.set(id, { committed: Buffer.from(committed), since: now })
    return answerTo(this.secret, owner, committed)
  }

  /** Tells the owner this vault from one made after it: the secret is made with the vault, and goes with it. */
  generation(owner: Buffer): Buffer {
    return keyedHash(this.secret, 'kith vault generation', owner).subarray(0, generationBytes)
  }

  /** @returns r2 of the flip, which is open no more */
  reveal(owner: Buffer, r1: Buffer, spread: Spread): Buffer {
    const committed = commitment(r1, spread)
    const id = owner.toString('hex')
    if (this.open.get(id)?.committed.equals(committed)) this.open.delete(id)
    return answerTo(this.secret, owner, committed)
  }
}
