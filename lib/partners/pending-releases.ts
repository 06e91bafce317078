/**
 * Releases that partners have not been told of yet. Who decommissions wants every partner to let go, and a partner that
 * is off line then is told as soon as it comes back. Until it has been told, nothing is uploaded to it: a late release
 * would take away what came after.
 *
 * Table `releases`: partner 32 | volume 16 (zero: everything) -> [0] version = 1
 * Table `release blocks`: volume 16 | block name 32 -> [0] version = 1: blocks that only this volume used; kept as long
 * as a partner waits to be told of the volume.
 */
import { encodings, type Database, type Table } from '../blocks/database.js'
import { publicKeyBytes, type KeyPair } from '../format/hash.js'
import { volumeIdBytes } from '../format/keys.js'
import type { Book } from './book.js'
import { requestRelease, type ReleaseWhat } from './release.js'
import type { OwnedBlocks, Peer } from './types.js'

export interface VolumeRelease {
  volume: Buffer
  /** blocks that only this volume used; gone from the owner's store already */
  blocks: Buffer[]
}

const everything = Buffer.alloc(volumeIdBytes)
const present = Buffer.from([1])
const under = (prefix: Buffer) => ({ start: prefix, end: Buffer.concat([prefix, Buffer.alloc(40, 0xff)]) })

export class PendingReleases {
  private readonly rows: Table<Buffer, Buffer>
  private readonly blocks: Table<Buffer, Buffer>
  /** One at a time for each partner. */
  private readonly running = new Map<string, Promise<number>>()

  constructor(
    private readonly db: Database,
    private readonly keyPair: KeyPair,
    private readonly book: Book,
    private readonly owned: OwnedBlocks,
  ) {
    this.rows = db.table('releases', encodings.bytes, encodings.bytes)
    this.blocks = db.table('release blocks', encodings.bytes, encodings.bytes)
  }

  /** Notes what these partners shall be told. Durable when it resolves. */
  async add(partners: readonly Buffer[], what: VolumeRelease | 'all'): Promise<void> {
    if (partners.length === 0) return
    const volume = what === 'all' ? everything : what.volume
    await this.db.transaction(() => {
      for (const partner of partners) {
        if (what === 'all') for (const key of this.keysFor(partner)) this.rows.remove(key)
        this.rows.put(Buffer.concat([partner, volume]), present)
      }
      if (what !== 'all')
        for (const name of what.blocks) this.blocks.put(Buffer.concat([volume, name]), present)
    })
    await this.sweep()
  }

  /** Whether this partner has something to be told. */
  waits(partner: Buffer): boolean {
    return this.keysFor(partner, 1).length > 0
  }

  /**
   * Tells the partner everything it has to be told.
   * @returns bytes that it let go of, by its own count
   * @throws KithError what the partner answered, or that it went away; it stays noted then
   */
  deliver(peer: Peer): Promise<number> {
    const id = peer.key.toString('hex')
    const running = this.running.get(id)
    if (running) return running
    const started = this.tell(peer).finally(() => this.running.delete(id))
    this.running.set(id, started)
    return started
  }

  private async tell(peer: Peer): Promise<number> {
    let bytes = 0
    for (const key of this.keysFor(peer.key)) {
      const volume = key.subarray(publicKeyBytes)
      for (const what of await this.requestsFor(volume))
        bytes += (await requestRelease(peer, this.keyPair, this.book, what)).bytes
      await this.db.transaction(() => this.rows.remove(key))
    }
    await this.sweep()
    return bytes
  }

  private async requestsFor(volume: Buffer): Promise<ReleaseWhat[]> {
    if (volume.equals(everything)) return ['everything']
    const names: Buffer[] = []
    for (const key of [...this.blocks.keysOf(under(volume))]) {
      const name = key.subarray(volumeIdBytes)
      // It may be in use again by another volume of ours.
      if ((await this.owned.get(name)) === undefined) names.push(name)
    }
    return [...(names.length > 0 ? [{ volume, blocks: names }] : []), { volume }]
  }

  /** Forgets the blocks of volumes that nobody waits for. */
  private async sweep(): Promise<void> {
    const waiting = new Set([...this.rows.keysOf()].map((key) => key.toString('hex', publicKeyBytes)))
    const over = [...this.blocks.keysOf()].filter(
      (key) => !waiting.has(key.toString('hex', 0, volumeIdBytes)),
    )
    if (over.length === 0) return
    await this.db.transaction(() => {
      for (const key of over) this.blocks.remove(key)
    })
  }

  private keysFor(partner: Buffer, limit?: number): Buffer[] {
    const range = { ...under(partner), ...(limit !== undefined && { limit }) }
    return [...this.rows.keysOf(range)].map((key) => Buffer.from(key))
  }
}
