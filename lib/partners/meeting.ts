/**
 * Where a node is announced in the open pool, and where it looks: at a *shard*, which follows from its key, so that everybody can be
 * found, and at *meeting places*, which follow from blocks, so that those with much in common find each other among many
 * (planning/search.ts has the idea and its figures).
 *
 *     announced at    its shard; the places of what its vault holds for others: at most 1 + 4 topics
 *     looks at        some shards, others each round; the places of its own blocks
 *
 * Who is found at our places holds blocks that we have, too: those of a friend with whom we share (`kith mount --share`). Two with
 * blocks of their own alike are friends already. The topic of a place is a hash under the pool's own namespace; a place is one of 2^48 tags
 * of block names, which says nothing to who does not have the block.
 */
import { randomBytes } from '../base/random.js'
import { hash } from '../format/hash.js'
import { meetingPlaces, metInRound } from '../planning/search.js'
import type { Address } from './addresses.js'
import type { Overlap } from './overlap.js'
import type { Roster } from './roster.js'

const shards = 16
const shardsARound = 4

export interface Found {
  key: Buffer
  addresses: Address[]
  /** at how many of our meeting places */
  places: number
}

export class Meeting {
  private readonly shardTopic: Buffer
  private shard = randomBytes(1).readUInt8(0) % shards
  /** Found in the last look. */
  private found = 0
  private isOffered = false
  private announced: string[] = []

  constructor(
    self: Buffer,
    private readonly roster: Pick<Roster, 'offer' | 'look'>,
    private readonly overlap: Pick<Overlap, 'sketch' | 'vaultSketch'>,
  ) {
    this.shardTopic = poolTopic(self.readUInt8(0) % shards)
  }

  get isAnnounced(): boolean {
    return this.isOffered
  }

  /** Announces this node, or no longer; its places follow with `refresh`. */
  offer(isOffered: boolean): void {
    if (isOffered === this.isOffered) return
    this.isOffered = isOffered
    this.roster.offer('pool', isOffered ? this.shardTopic : undefined)
    if (!isOffered) this.move([])
  }

  /** Brings the places where it is announced up to what the vault holds now. Costs nothing where nothing changed. */
  async refresh(): Promise<void> {
    if (!this.isOffered) return
    const places = meetingPlaces(await this.overlap.vaultSketch())
    if (this.isOffered) this.move(places)
  }

  /** Looks once. @param isWanted asked of each that is found */
  async look(isWanted: (key: Buffer) => boolean): Promise<Map<string, Found>> {
    const found = new Map<string, Found>()
    const see = (topic: Buffer, counts: number) =>
      this.roster.look(topic, (key, addresses) => {
        if (!isWanted(key)) return
        const id = key.toString('hex')
        const places = (found.get(id)?.places ?? 0) + counts
        found.set(id, { key, addresses, places })
      })
    const first = this.shard
    const count = this.found < metInRound ? shards : shardsARound
    this.shard = (first + count) % shards
    const looks = Array.from({ length: count }, (_, i) => see(poolTopic((first + i) % shards), 0))
    for (const place of meetingPlaces(await this.overlap.sketch())) looks.push(see(placeTopic(place), 1))
    await Promise.all(looks)
    this.found = found.size
    return found
  }

  private move(places: string[]): void {
    for (const place of this.announced)
      if (!places.includes(place)) this.roster.offer(`pool place ${place}`, undefined)
    for (const place of places) this.roster.offer(`pool place ${place}`, placeTopic(place))
    this.announced = places
  }
}

function poolTopic(shard: number): Buffer {
  return hash('kith open pool', Buffer.from([shard]))
}

function placeTopic(place: string): Buffer {
  return hash('kith open pool place', Buffer.from(place, 'hex'))
}
