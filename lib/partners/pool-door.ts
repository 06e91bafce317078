/**
 * The door of the open pool: which strangers may come in, so that neither one identity, nor one network, nor all together keep a
 * node busy. Refused ones cost a handshake and one message (network.ts bounds those by address before).
 */
import type { Clock } from '../base/clock.js'
import { Limiter } from './addresses.js'
import { prefixOf } from './distance.js'

/** Strangers inside at once. */
export const mostStrangers = 16
const ofIdentity = { burst: 6, perMinute: 0.5, capacity: 4096 }
/** Of one /24 or /48; loopback counts as one. */
const ofPrefix = { burst: 40, perMinute: 4, capacity: 4096 }
const ofAll = { burst: 120, perMinute: 30, capacity: 1 }

export class PoolDoor {
  private readonly identities: Limiter
  private readonly prefixes: Limiter
  private readonly all: Limiter

  constructor(clock: Clock) {
    this.identities = new Limiter(clock, ofIdentity)
    this.prefixes = new Limiter(clock, ofPrefix)
    this.all = new Limiter(clock, ofAll)
  }

  /** @param inside strangers that are inside now */
  opens(key: Buffer, host: string | undefined, inside: number): boolean {
    return (
      inside < mostStrangers &&
      this.prefixes.take(prefixOf(host) ?? 'loopback') &&
      this.identities.take(key.toString('hex')) &&
      this.all.take('')
    )
  }
}
