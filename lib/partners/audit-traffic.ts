/**
 * What audits send and receive, by partner, and what they may: `perDay` bytes on average. Keyed hashes of a sample take some 8 KiB
 * and are always asked for; blocks in whole are read back only out of what is left, and a block that takes more than that
 * takes the allowance of the days after. What follows a finding, and what a user asks for, is counted, and not held up.
 */
import type { Clock } from '../base/clock.js'
import { encodeReply, encodeRequest } from '../format/wire.js'
import type { Peer } from './types.js'

interface Account {
  /** may be negative: debt */
  allowance: number
  /** monotonic ms */
  at: number
  /** of the last days, each 1/24 of a day: its number, and bytes */
  hours: Map<number, number>
}

const hourMs = 3_600_000
const dayHours = 24

export class AuditTraffic {
  private readonly accounts = new Map<string, Account>()

  constructor(
    private readonly clock: Clock,
    readonly perDay: number,
  ) {}

  /** Bytes both ways in the last day, since this node started. */
  lastDay(partner: Buffer): number {
    const { hours } = this.account(partner)
    return [...hours.values()].reduce((sum, bytes) => sum + bytes, 0)
  }

  /** Whether a block may be read back in whole. */
  hasRoom(partner: Buffer): boolean {
    return this.account(partner).allowance > 0
  }

  /** The same peer, whose requests are counted. */
  metered(peer: Peer): Peer {
    const { key, name, lends, agrees, proves, gives, hears, keepsLists, tellsGeneration, attests, heeds } =
      peer
    return {
      ...{ key, name, lends, agrees, proves, gives, hears, keepsLists, tellsGeneration, attests, heeds },
      get closed() {
        return peer.closed
      },
      request: async (kind, message) => {
        this.count(key, encodeRequest(kind, 1, message).length)
        const reply = await peer.request(kind, message)
        this.count(key, encodeReply(kind, 1, reply).length)
        return reply
      },
      put: (blocks) => peer.put(blocks),
    }
  }

  private count(partner: Buffer, bytes: number): void {
    const account = this.account(partner)
    const hour = Math.floor(account.at / hourMs)
    account.allowance -= bytes
    account.hours.set(hour, (account.hours.get(hour) ?? 0) + bytes)
  }

  private account(partner: Buffer): Account {
    const id = partner.toString('hex')
    const at = this.clock.monotonic()
    const before = this.accounts.get(id) ?? { allowance: this.perDay, at, hours: new Map<number, number>() }
    const grown = before.allowance + ((at - before.at) / (dayHours * hourMs)) * this.perDay
    const account = { ...before, at, allowance: Math.min(this.perDay, grown) }
    const oldest = Math.floor(at / hourMs) - dayHours + 1
    for (const hour of account.hours.keys()) if (hour < oldest) account.hours.delete(hour)
    this.accounts.set(id, account)
    return account
  }
}
