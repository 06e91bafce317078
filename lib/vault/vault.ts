/**
 * The vault: what this machine holds for others. It sees ciphertext only, and trusts nobody: a block is checked against
 * its name before it is kept and when it is read, a head by its owner's signature, a release by signature and number.
 *
 * Each block carries the set of owners with an interest in it, by offering it or sending it. Only those may read it, and it
 * is freed when the set is empty. What an owner offers and sends is gathered, and becomes its interest at its commit.
 *
 * A drop is a release that is held back for a while. Until its time the block stays readable, and the owner's next commit
 * of an offer or a block of that name calls it off; to the owner it counts as held no more at once.
 *
 * Crash argument: a commit first makes the blocks durable, then the interest in them, and only then is acknowledged; a
 * release first takes the interest away, then the blocks. Between the two steps a crash leaves blocks that nobody wants,
 * never an interest in a block that is not there; `verify` frees those on its rounds.
 */
import { join } from 'node:path'
import { KithError } from '../base/errors.js'
import { randomBytes } from '../base/random.js'
import { BlockStore, maxBlockBytes } from '../blocks/block-store.js'
import { stopIfAborted, verifyBlocks, type Watch } from '../blocks/examine.js'
import { Database } from '../blocks/database.js'
import { blockOverhead } from '../format/agreement.js'
import { coinNonce, drawnWindows, maxDrawn, type Spread, windowRange } from '../format/coin.js'
import { decodeHead } from '../format/head.js'
import { blockNames } from '../format/seal.js'
import { maxHeads, possessionProof, type ProvenBlock } from '../format/wire.js'
import { rangeProof, type BlockRange } from '../format/wire-pool.js'
import { acceptRelease, type Release } from '../format/wire-release.js'
import { Flips } from './flips.js'
import { noOwner, VaultTables, sequenceOf } from './index-tables.js'
import type { Checked, Held, OwnerInfo, Scrubbed, VaultOptions } from './types.js'

/** Interest that the owner's next commit makes durable: name as latin1 -> name and sealed bytes. */
interface Gathered {
  blocks: Map<string, { name: Buffer; bytes: number; cost: number }>
  /** of the quota */
  cost: number
}

const hex = (key: Buffer) => key.toString('hex')
/** Of one owner, between two commits: they are kept in memory. */
const maxGathered = 16_384
/** Drops are held back so long unless the options say otherwise. */
export const defaultDropDelayMs = 3 * 86_400_000
/** Blocks let go of in one transaction. */
const releaseBatch = 10_000
/** Blocks read in one step of a round. */
const scrubBatch = 256
const dropBatch = 1000

export class Vault {
  private readonly flips: Flips
  private readonly gathered = new Map<string, Gathered>()
  /** Taken for a commit that is under way: no one's to free, and counted as gathered. */
  private committing: { owner: string; gathered: Gathered }[] = []
  private gatheredCost = 0
  private quota: number
  private closed = false
  /** Commits, releases and drops run one at a time, so that sets and sums are changed by one at a time. */
  private exclusive: Promise<unknown> = Promise.resolve()

  private constructor(
    private readonly db: Database,
    private readonly tables: VaultTables,
    private readonly blocks: BlockStore,
    private readonly options: VaultOptions,
    coinSecret: Buffer,
  ) {
    this.quota = options.quotaBytes
    this.flips = new Flips(coinSecret, options.clock)
  }

  static async open(dir: string, options: VaultOptions): Promise<Vault> {
    const db = Database.open(join(dir, 'index'))
    try {
      const tables = new VaultTables(db)
      const blocks = await BlockStore.open(dir, { db, clock: options.clock, log: options.log, isCold: true })
      const coinSecret = tables.coinSecret() ?? randomBytes(32)
      if (!tables.coinSecret()) await db.transaction(() => tables.putCoinSecret(coinSecret))
      return new Vault(db, tables, blocks, options, coinSecret)
    } catch (error) {
      await db.close()
      throw error
    }
  }

  /** Requests that still come are refused. */
  async close(): Promise<void> {
    this.closed = true
    await this.exclusive.catch(() => undefined)
    await this.blocks.close()
    await this.db.close()
  }

  get quotaBytes(): number {
    return this.quota
  }

  /** Of all owners together, from now on. What is held already stays. */
  set quotaBytes(bytes: number) {
    this.quota = bytes
  }

  /** Sealed bytes of all blocks here. */
  get bytes(): number {
    return this.blocks.bytes
  }

  /** What the owner may count on: without what it dropped. */
  held(owner: Buffer): Held & { releaseNumber: number; generation: Buffer } {
    const { bytes, blocks, releaseNumber, droppingBytes, droppingBlocks } =
      this.tables.owner(owner) ?? noOwner
    const generation = this.flips.generation(owner)
    return { bytes: bytes - droppingBytes, blocks: blocks - droppingBlocks, releaseNumber, generation }
  }

  /** Whether anything is held for that owner. */
  knows(owner: Buffer): boolean {
    return (this.tables.owner(owner)?.blocks ?? 0) > 0 || this.tables.headCount(owner) > 0
  }

  owners(): OwnerInfo[] {
    return [...this.tables.owners()]
      .map(({ owner, row: { bytes, blocks, since } }) => {
        return { owner, bytes, blocks, since, heads: this.tables.headCount(owner) }
      })
      .filter((info) => info.blocks > 0 || info.heads > 0)
  }

  /**
   * For each name, in order, whether the owner must send it. In those that are here the owner has an interest from its
   * next commit on.
   */
  missing(owner: Buffer, names: readonly Buffer[]): boolean[] {
    this.assertOpen()
    return names.map((name) => {
      const bytes = this.blocks.size(name)
      if (bytes === undefined) return true
      if (this.isCommitting(owner, name)) return false
      const isOwned = this.tables.size(owner, name) !== undefined
      if (isOwned && !this.tables.isDropping(owner, name)) return false
      const isFull = (this.gathered.get(hex(owner))?.blocks.size ?? 0) >= maxGathered
      if (isFull || (!isOwned && this.room(owner) < bytes + blockOverhead)) return true
      // What a drop is held back for takes its room already.
      this.gather(owner, name, bytes, isOwned ? 0 : bytes + blockOverhead)
      return false
    })
  }

  /**
   * Takes a block in, until the owner's next commit not for good.
   * @throws KithError `damaged` when the bytes are not what the name says, `noSpace` beyond a quota or on a full disk
   */
  put(owner: Buffer, name: Buffer, bytes: Buffer): Promise<void> {
    return this.putAll(owner, [{ name, bytes }])
  }

  /** The same of several, in turn: their names are checked side by side, before any is taken. */
  async putAll(owner: Buffer, blocks: readonly { name: Buffer; bytes: Buffer }[]): Promise<void> {
    this.assertOpen()
    const fits = blocks.every(({ bytes }) => bytes.length > 0 && bytes.length <= maxBlockBytes)
    const names = fits ? blockNames(blocks.map(({ bytes }) => bytes)) : []
    if (!blocks.every(({ name }, i) => names[i]?.equals(name)))
      throw new KithError('damaged', 'a block differs from its name')
    for (const { name, bytes } of blocks) await this.take(owner, name, bytes)
  }

  private async take(owner: Buffer, name: Buffer, bytes: Buffer): Promise<void> {
    this.assertOpen()
    const isHere = this.blocks.size(name) !== undefined
    const isOwned = isHere && this.tables.size(owner, name) !== undefined
    if (isOwned && !this.tables.isDropping(owner, name)) return
    if (isHere && this.isCommitting(owner, name)) return
    const used = this.blocks.bytes + this.blocks.count * blockOverhead + this.gatheredCost
    const cost = bytes.length + blockOverhead
    if (!isHere && this.quota - used < cost)
      throw new KithError('noSpace', 'the space set aside for partners is used up')
    if (!isOwned && this.room(owner) < cost)
      throw new KithError(
        'noSpace',
        'the space agreed upon is used up (kith agreement resize), or the agreement ended',
      )
    if ((this.gathered.get(hex(owner))?.blocks.size ?? 0) >= maxGathered) {
      throw new KithError('busy', `commit first: ${maxGathered} blocks wait for it`)
    }
    this.gather(owner, name, bytes.length, isOwned ? 0 : cost)
    try {
      await this.blocks.put(name, bytes)
    } catch (error) {
      this.forget(owner, name)
      throw error
    }
  }

  /**
   * Makes durable what the owner offered and sent since its last commit, until this was called; more may come meanwhile.
   * @returns what the owner holds now and did not before
   * @throws KithError `noSpace` on a full disk, `damaged` when a block was lost meanwhile: to be offered again
   */
  commit(owner: Buffer): Promise<Held> {
    const gathered = this.takeGathered(owner)
    const commit = { owner: hex(owner), gathered }
    this.committing.push(commit)
    this.gatheredCost += gathered.cost
    const done = this.alone(() => this.keep(owner, [...gathered.blocks.values()]))
    return done.finally(() => {
      this.committing = this.committing.filter((other) => other !== commit)
      this.gatheredCost -= gathered.cost
    })
  }

  private async keep(owner: Buffer, blocks: readonly { name: Buffer }[]): Promise<Held> {
    const added = { blocks: 0, bytes: 0 }
    if (blocks.length === 0) return added
    const now = this.options.clock.now()
    let lost = 0
    await this.blocks.commit(() => {
      for (const { name } of blocks) {
        const bytes = this.blocks.size(name)
        if (bytes !== undefined) this.tables.keep(owner, name)
        if (bytes === undefined) lost++
        else if (this.tables.add(owner, name, bytes, now)) {
          added.blocks++
          added.bytes += bytes
        }
      }
    })
    if (lost > 0)
      throw new KithError('damaged', `${lost} blocks were lost before the commit: offer them again`)
    return added
  }

  /** Sealed bytes of a block that the owner may read. */
  size(owner: Buffer, name: Buffer): number | undefined {
    return this.tables.size(owner, name)
  }

  /** The block, for an owner with an interest in it. One that is found damaged is dropped, and counts as missing. */
  async get(owner: Buffer, name: Buffer): Promise<Buffer | undefined> {
    this.assertOpen()
    if (this.tables.size(owner, name) === undefined) return undefined
    return this.sound(name)
  }

  private async sound(name: Buffer): Promise<Buffer | undefined> {
    try {
      const bytes = await this.blocks.get(name)
      if (bytes !== undefined) return bytes
    } catch (error) {
      if (!(error instanceof KithError) || error.code !== 'damaged') throw error
    }
    await this.drop([name])
    return undefined
  }

  /** For each name a proof that the block is here (format/wire.ts), undefined where it is not. */
  async prove(owner: Buffer, nonce: Buffer, names: readonly Buffer[]): Promise<(Buffer | undefined)[]> {
    const proofs: (Buffer | undefined)[] = []
    for (const name of names) {
      const bytes = await this.get(owner, name)
      proofs.push(bytes && possessionProof(nonce, this.options.partnerKey, bytes))
    }
    return proofs
  }

  /**
   * For each part of a block, whoever's it is, a proof that it is here; undefined where it is not. Who asks knows the names of
   * sealed blocks, and learns nothing of their bytes.
   */
  async probe(nonce: Buffer, ranges: readonly BlockRange[]): Promise<(Buffer | undefined)[]> {
    this.assertOpen()
    const proofs: (Buffer | undefined)[] = []
    for (const range of ranges) {
      const bytes = await this.sound(range.name)
      const isWithin = bytes && range.offset + range.length <= bytes.length
      proofs.push(isWithin ? rangeProof(nonce, this.options.partnerKey, range, bytes) : undefined)
    }
    return proofs
  }

  /** Blocks taken in after the sequence number, oldest first, whoever's they are. */
  since(sequence: number, limit: number): { sequence: number; name: Buffer; bytes: number }[] {
    return this.blocks.since(sequence, limit)
  }

  /**
   * The holder's part of a coin flip (format/coin.ts).
   * @throws KithError busy while another flip of the owner is open
   */
  flip(owner: Buffer, committed: Buffer): Buffer {
    this.assertOpen()
    return this.flips.flip(owner, committed)
  }

  /** The blocks that a coin flip draws, as far as they are here, with their proofs. */
  async reveal(owner: Buffer, r1: Buffer, spread: Spread): Promise<ProvenBlock[]> {
    this.assertOpen()
    const r2 = this.flips.reveal(owner, r1, spread)
    const names: Buffer[] = []
    for (const window of drawnWindows(r1, r2, spread)) {
      const room = maxDrawn - names.length
      if (room === 0) break
      names.push(...this.tables.namesWithin(owner, windowRange(window, spread.bits), room))
    }
    const proofs = await this.prove(owner, coinNonce(r1, r2), names)
    return names.flatMap((name, i) => {
      const proof = proofs[i]
      return proof ? [{ name, proof }] : []
    })
  }

  /**
   * Durable when it resolves. The same head again is no error.
   * @throws KithError `damaged` unless it verifies, `denied` for another owner's, `exists` when a newer one is here
   */
  putHead(owner: Buffer, bytes: Buffer): Promise<void> {
    return this.alone(async () => {
      const head = decodeHead(bytes)
      if (!head.owner.equals(owner)) throw new KithError('denied', 'the head is signed by another owner')
      const known = this.tables.head(owner, head.volumeId)
      // One that was released, and is held back, gives way to any: the owner begins anew.
      const stands = known && !this.tables.isParting(owner, head.volumeId) ? known : undefined
      if (stands?.equals(bytes)) return
      if (stands && sequenceOf(stands) >= head.sequence) {
        throw new KithError('exists', 'a head with the same or a higher number is held already')
      }
      if (!known && this.tables.headCount(owner) >= maxHeads) {
        throw new KithError('noSpace', `heads of more than ${maxHeads} volumes are not held`)
      }
      const now = this.options.clock.now()
      await this.db.transaction(() => this.tables.putHead(owner, head.volumeId, bytes, now))
    })
  }

  /** The owner's heads: of one volume, or of all. */
  heads(owner: Buffer, volume?: Buffer): Buffer[] {
    if (volume === undefined) return this.tables.heads(owner)
    const head = this.tables.head(owner, volume)
    return head ? [head] : []
  }

  /**
   * Takes away what the owner's signed request says, but holds it back as it does drops, blocks and heads, so that who stole the
   * owner's machine cannot take all backups away. All can be read meanwhile. Durable when it resolves.
   * @param owner the authenticated peer
   * @returns what the owner held before and holds no more
   * @throws KithError `denied` for a request that is forged, of another owner, for another partner, or was used before
   */
  release(owner: Buffer, request: Buffer): Promise<Held> {
    return this.alone(async () => {
      const last = this.held(owner).releaseNumber
      const release = acceptRelease(request, owner, this.options.partnerKey, last)
      const isEverything = this.endsEverything(release)
      const now = this.options.clock.now()
      await this.db.transaction(() => {
        this.tables.numbered(owner, release.number, now)
        const volumes = isEverything ? this.tables.volumesOf(owner) : []
        if (release.kind === 'volume') volumes.push(release.volume)
        for (const volume of volumes) this.tables.partHead(owner, volume, this.dueFrom(now))
      })
      const freed = { blocks: 0, bytes: 0 }
      if (isEverything) await this.holdBackAll(owner, freed)
      else await this.holdBack(owner, release.names, freed)
      this.options.log.info({ owner: hex(owner), kind: release.kind, ...freed }, 'released')
      return freed
    })
  }

  /**
   * Lets go of all that is held for an owner, as its own release of everything would: an agreement ended, and its notice is
   * over. Durable when it resolves; after a crash it is called again.
   */
  evict(owner: Buffer): Promise<Held> {
    return this.alone(async () => {
      await this.db.transaction(() => this.tables.removeHeads(owner))
      const freed = { blocks: 0, bytes: 0 }
      await this.disownAll(owner, freed)
      this.options.log.info({ owner: hex(owner), ...freed }, 'let go of after the end of an agreement')
      return freed
    })
  }

  /**
   * One step of a round through the vault: reads blocks, drops those that are damaged (so that their owners find them missing)
   * and those that nobody wants.
   * @param after the cursor of the step before; from the start when absent
   */
  async verify(limit: number, after?: Buffer): Promise<Scrubbed> {
    const names: Buffer[] = []
    for (const name of this.blocks.names(after)) {
      if (names.length >= limit) break
      names.push(Buffer.from(name))
    }
    const damaged: Buffer[] = []
    for (const name of names) {
      if (!(await this.isSound(name))) damaged.push(name)
    }
    if (damaged.length > 0) await this.drop(damaged)
    await this.alone(async () => {
      const unwanted = names.filter((name) => !this.tables.wanted(name) && !this.isGathered(name))
      if (unwanted.length > 0) await this.blocks.remove(unwanted)
    })
    const last = names.at(-1)
    const scrubbed = { checked: names.length, damaged }
    return last && names.length === limit ? { ...scrubbed, next: last } : scrubbed
  }

  /** Whether the index and the segments agree, and the blocks for which `wanted` says so are what their names say. */
  async check(wanted: ((name: Buffer) => boolean) | undefined, watch?: Watch): Promise<Checked> {
    const index = await this.blocks.examine(false, watch)
    const read = wanted && (await verifyBlocks(this.blocks, wanted, watch))
    const damaged = new Set([...index.damaged, ...(read?.damaged ?? [])].map(hex))
    return { blocks: index.blocks, read: read?.blocks ?? 0, damaged: damaged.size, problems: index.problems }
  }

  /** Puts the index right, and drops what is damaged: the owners' audits find it missing and send it again. */
  async repair(signal?: AbortSignal): Promise<{ checked: number; dropped: number }> {
    await this.blocks.examine(true, { signal })
    const done = { checked: 0, dropped: 0 }
    let step: Scrubbed | undefined
    do {
      stopIfAborted(signal)
      step = await this.verify(scrubBatch, step?.next)
      done.checked += step.checked
      done.dropped += step.damaged.length
    } while (step.next)
    return done
  }

  /** Whether a drop's time has come. */
  get hasDueDrops(): boolean {
    const now = this.options.clock.now()
    return this.tables.due(now, 1).length > 0 || this.tables.hasDueHeads(now)
  }

  /** Carries out the drops whose time has come, some at a time. @returns what was let go of */
  async carryOutDrops(): Promise<Held> {
    const freed = { blocks: 0, bytes: 0 }
    const { clock } = this.options
    await this.alone(() => this.db.transaction(() => this.tables.removeDueHeads(clock.now())))
    for (let more = true; more;) {
      await this.alone(async () => {
        const due = this.tables.due(clock.now(), dropBatch)
        more = due.length === dropBatch
        const owners = new Map<string, { owner: Buffer; names: Buffer[] }>()
        for (const { owner, name } of due) {
          const group = owners.get(hex(owner)) ?? { owner, names: [] }
          owners.set(hex(owner), group)
          group.names.push(name)
        }
        for (const { owner, names } of owners.values()) await this.disown(owner, names, freed)
      })
    }
    if (freed.blocks > 0) this.options.log.info(freed, 'drops carried out')
    return freed
  }

  /** Notes drops for later; a block whose drop is held back already keeps its time. */
  private async holdBack(owner: Buffer, names: readonly Buffer[], dropped: Held): Promise<void> {
    const due = this.dueFrom(this.options.clock.now())
    await this.db.transaction(() => {
      for (const name of names) {
        const bytes = this.tables.drop(owner, name, due)
        if (bytes === undefined) continue
        dropped.blocks++
        dropped.bytes += bytes
      }
    })
  }

  private async holdBackAll(owner: Buffer, dropped: Held): Promise<void> {
    this.takeGathered(owner)
    const next = (after?: Buffer) => this.tables.namesOf(owner, releaseBatch, after)
    for (let names = next(); names.length > 0; names = next(names.at(-1)))
      await this.holdBack(owner, names, dropped)
  }

  private dueFrom(now: number): number {
    return now + (this.options.dropDelayMs ?? defaultDropDelayMs)
  }

  /** Whether the release of a volume takes the owner's last head, and with it all that could be restored. */
  private endsEverything(release: Release): boolean {
    if (release.kind === 'everything') return true
    if (release.kind === 'blocks' || release.kind === 'drop') return false
    return this.tables.volumesOf(release.owner).every((volume) => volume.equals(release.volume))
  }

  private async isSound(name: Buffer): Promise<boolean> {
    try {
      await this.blocks.get(name)
      return true
    } catch (error) {
      if (error instanceof KithError && error.code === 'damaged') return false
      throw error
    }
  }

  /** Takes the owner's interest in the blocks away, and frees those that nobody else wants. */
  private async disown(owner: Buffer, names: readonly Buffer[], freed: Held): Promise<void> {
    const unwanted = await this.db.transaction(() => {
      const free: Buffer[] = []
      for (const name of names) {
        const bytes = this.tables.remove(owner, name)
        if (bytes === undefined) continue
        freed.blocks++
        freed.bytes += bytes
        if (!this.tables.wanted(name) && !this.isGathered(name)) free.push(name)
      }
      return free
    })
    await this.blocks.remove(unwanted)
  }

  private async disownAll(owner: Buffer, freed: Held): Promise<void> {
    this.takeGathered(owner)
    const next = () => this.tables.namesOf(owner, releaseBatch)
    for (let names = next(); names.length > 0; names = next()) await this.disown(owner, names, freed)
  }

  /** Takes blocks away from all owners: they are damaged. */
  private drop(names: readonly Buffer[]): Promise<void> {
    return this.alone(async () => {
      const gone: Buffer[] = []
      // One that was replaced by a sound one meanwhile stays.
      for (const name of names) if (!(await this.isSound(name))) gone.push(name)
      await this.db.transaction(() => {
        for (const name of names) {
          if (this.blocks.size(name) !== undefined) continue
          for (const owner of this.tables.interested(name)) this.tables.remove(owner, name)
        }
      })
      await this.blocks.remove(gone)
      for (const name of gone)
        this.options.log.warn({ block: hex(name).slice(0, 12) }, 'damaged block dropped')
    })
  }

  private room(owner: Buffer): number {
    const bound = this.options.ownerQuotaBytes?.(owner) ?? this.quota
    const { bytes, blocks } = this.tables.owner(owner) ?? { bytes: 0, blocks: 0 }
    const open = this.gathered.get(hex(owner))?.cost ?? 0
    const taken = this.committing.reduce(
      (sum, one) => sum + (one.owner === hex(owner) ? one.gathered.cost : 0),
      0,
    )
    return bound - bytes - blocks * blockOverhead - open - taken
  }

  /** @param cost of the quota */
  private gather(owner: Buffer, name: Buffer, bytes: number, cost: number): void {
    const gathered = this.gathered.get(hex(owner)) ?? { blocks: new Map<string, never>(), cost: 0 }
    this.gathered.set(hex(owner), gathered)
    const id = name.toString('latin1')
    if (gathered.blocks.has(id)) return
    gathered.blocks.set(id, { name: Buffer.from(name), bytes, cost })
    gathered.cost += cost
    this.gatheredCost += cost
  }

  private forget(owner: Buffer, name: Buffer): void {
    const gathered = this.gathered.get(hex(owner))
    const block = gathered?.blocks.get(name.toString('latin1'))
    if (!gathered || !block) return
    gathered.blocks.delete(name.toString('latin1'))
    gathered.cost -= block.cost
    this.gatheredCost -= block.cost
  }

  private takeGathered(owner: Buffer): Gathered {
    const gathered = this.gathered.get(hex(owner)) ?? { blocks: new Map<string, never>(), cost: 0 }
    this.gathered.delete(hex(owner))
    this.gatheredCost -= gathered.cost
    return gathered
  }

  private isGathered(name: Buffer): boolean {
    const id = name.toString('latin1')
    const taken = this.committing.map(({ gathered }) => gathered)
    return [...this.gathered.values(), ...taken].some(({ blocks }) => blocks.has(id))
  }

  private isCommitting(owner: Buffer, name: Buffer): boolean {
    if (this.committing.length === 0) return false
    const [key, id] = [hex(owner), name.toString('latin1')]
    return this.committing.some((one) => one.owner === key && one.gathered.blocks.has(id))
  }

  private assertOpen(): void {
    if (this.closed) throw new KithError('busy', 'the vault is closing')
  }

  private alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.exclusive.then(() => {
      this.assertOpen()
      return work()
    })
    this.exclusive = done.catch(() => undefined)
    return done
  }
}
