/**
 * One topic on the DHT, looked up again and again and, if told, announced. Rounds follow each other after 1 s, 2 s, ...
 * up to 5 minutes: soon enough for records (DHT nodes forget them after 20 minutes) and for those who come later, who
 * find us as well as we find them. While no DHT node answers, or a mere look-up finds nobody, rounds stay at most 30 s
 * apart.
 */
import type HyperDHT from 'hyperdht'
import type { Query, Server } from 'hyperdht'
import type { Clock, Timer } from '../base/clock.js'
import type { Log } from '../base/log.js'
import type { KeyPair } from '../format/hash.js'
import type { Address } from './addresses.js'

export interface TopicOptions {
  dht: HyperDHT
  server: Server
  keyPair: KeyPair
  announce: boolean
  found: (key: Buffer, addresses: Address[]) => void
  closed: () => void
  clock: Clock
  log: Log
}

const firstDelay = 1000
const longestDelay = 5 * 60_000
const longestWhenDeaf = 30_000
/** Peers taken from one round; a DHT node answers with at most 20. */
const maxFound = 256

export class Topic {
  private timer: Timer | null = null
  private query: Query | null = null
  private running: Promise<void> = Promise.resolve()
  private rounds = 0
  private closed = false
  /** Rounds that are over. */
  finished = 0
  /** Whether DHT nodes answered in the last round: of an announcement, took it. */
  heard = false
  /** The first round is over, whatever it brought. */
  readonly settled: Promise<void>

  constructor(
    readonly topic: Buffer,
    private readonly options: TopicOptions,
  ) {
    this.settled = this.start()
  }

  /** Starts a round now, and the doubling of delays from the beginning. */
  hurry(): void {
    this.rounds = 0
    if (this.query === null && !this.closed) void this.start()
  }

  /** Stops, and takes the announcement back where the DHT answers within a second. */
  async close(): Promise<void> {
    if (this.closed) return
    this.closed = true
    this.timer?.cancel()
    this.query?.destroy()
    this.options.closed()
    await this.running
    const { dht, keyPair, clock, announce } = this.options
    if (!announce) return
    await new Promise<void>((resolve) => {
      const bound = clock.after(1000, resolve)
      const done = () => {
        bound.cancel()
        resolve()
      }
      dht.unannounce(this.topic, keyPair).then(done, done)
    })
  }

  private start(): Promise<void> {
    this.timer?.cancel()
    this.running = this.round()
    return this.running
  }

  private async round(): Promise<void> {
    const found = await this.ask()
    this.finished++
    if (this.closed) return
    const longest = this.heard && (this.options.announce || found > 0) ? longestDelay : longestWhenDeaf
    const delay = Math.min(longest, firstDelay * 2 ** Math.min(20, this.rounds++))
    this.timer = this.options.clock.after(delay, () => void this.start())
  }

  /** @returns how many were found */
  private async ask(): Promise<number> {
    const { dht, server, keyPair, announce } = this.options
    const found = new Map<string, { key: Buffer; addresses: Address[] }>()
    try {
      const query = announce
        ? dht.announce(this.topic, keyPair, server.relayAddresses.slice(0, 3))
        : dht.lookup(this.topic)
      this.query = query
      for await (const { peers } of query) {
        for (const { publicKey, relayAddresses } of peers) {
          const id = publicKey.toString('hex')
          if (found.has(id) || found.size >= maxFound) continue
          found.set(id, { key: publicKey, addresses: relayAddresses.slice(0, 3) })
          if (!this.closed) this.options.found(publicKey, relayAddresses.slice(0, 3))
        }
      }
      this.heard = query.closestReplies.length > 0
    } catch (error) {
      this.heard = false
      if (!this.closed) this.options.log.debug({ error: String(error) }, 'a round on the DHT failed')
    }
    this.query = null
    return found.size
  }
}
