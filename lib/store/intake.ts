/**
 * The one way by which a volume's blocks get into the block store: chunks are looked up in the volume's index first,
 * nodes by their name. Every so many MiB what came in is committed, blocks and index rows together, so that a long
 * first backup that is interrupted need not start over.
 *
 * A chunk counts as known only when its block is in the store, or was evicted from it and is held by as many partners as
 * are asked for: never against something already lost. Where fewer hold it, the bytes that are just being read are kept.
 */
import type { BlockStore } from '../blocks/block-store.js'
import { hashBytes } from '../format/hash.js'
import type { NodeRef } from '../format/seal.js'
import { type ChunkRef, sealNode } from '../format/seal.js'
import type { PartExtent } from '../format/entry.js'
import {
  isSoundPack,
  isSoundPart,
  type PackedFile,
  packId,
  packRow,
  type PackRow,
  partEncoding,
  partId,
  partIdBytes,
  partOf,
  partRow,
  partRowBytes,
} from './parts.js'
import type { ChunkRow, VolumeState } from './state.js'

/** Sealed bytes between two commits. */
const commitBytes = 64 * 1024 * 1024

/** Nodes are mostly hashes and keys, which no level makes smaller; they are sealed while a snapshot waits. */
const nodeLevel = 1

export class Intake {
  /** Chunks that came in and are not in the index yet, by chunk id. */
  private readonly fresh = new Map<string, { id: Buffer; row: ChunkRow }>()
  private readonly freshNodes = new Map<string, Buffer>()
  /** Likewise, by the keys of their rows; of parts key and row as they are stored. */
  private readonly freshParts = new Map<string, Buffer>()
  private readonly freshPacks = new Map<string, { id: Buffer; row: PackRow }>()
  private sinceCommit = 0
  private committing: Promise<void> = Promise.resolve()
  private accountedBlocks = 0
  private accountedBytes = 0
  /** What came in since the intake was made: blocks that were not there before. */
  newBlocks = 0
  newBytes = 0

  constructor(
    private readonly blocks: BlockStore,
    private readonly state: VolumeState,
    private readonly nodeKey: Buffer,
    /** Writes of the volume's totals, inside each commit. */
    private readonly account: (newBlocks: number, newBytes: number) => void,
    /** Whether enough partners hold a block that is not kept here. */
    private readonly isSafe: (sequence: number, name: Buffer) => boolean = () => false,
  ) {}

  /** The block of a chunk that need not be stored, by the chunk's id. */
  known(id: Buffer): ChunkRow | undefined {
    const row = this.fresh.get(id.toString('latin1'))?.row ?? this.state.chunks.get(id)
    return row && this.isHeld(row.name) ? row : undefined
  }

  private isHeld(name: Buffer): boolean {
    if (this.blocks.isHere(name)) return true
    const sequence = this.blocks.has(name) ? this.blocks.sequence(name) : undefined
    return sequence !== undefined && this.isSafe(sequence, name)
  }

  /** Where a small file's content is here as part of a pack, by the content's chunk id. */
  knownPart(contentId: Buffer, bytes: number): PartExtent | undefined {
    const id = partId(contentId)
    const fresh = this.freshParts.get(id.toString('latin1'))
    const part = fresh ? partEncoding.decode(fresh.subarray(partIdBytes)) : this.state.parts.get(id)
    if (part?.bytes !== bytes || !isSoundPart(id, part)) return undefined
    const pack = this.pack(part.pack)
    return pack && this.isHeld(pack.name) ? partOf(this.nodeKey, part, pack) : undefined
  }

  private pack(id: Buffer): PackRow | undefined {
    const row = this.freshPacks.get(id.toString('latin1'))?.row ?? this.state.packs.get(id)
    return row && isSoundPack(id, row) ? row : undefined
  }

  /** What came in and is not yet in the volume's totals. */
  get unaccounted(): { blocks: number; bytes: number } {
    return { blocks: this.newBlocks - this.accountedBlocks, bytes: this.newBytes - this.accountedBytes }
  }

  /**
   * Takes sealed chunks in.
   * @param blocks `count` chunk ids, then as many records, as a segment has them; must not change afterwards
   * @throws KithError noSpace, and then none of them counts as known
   */
  async addChunks(count: number, blocks: Buffer): Promise<void> {
    const records = blocks.subarray(count * hashBytes)
    const fresh = await this.blocks.putRecords(records, (i, name, sealedBytes) => {
      // A copy: the bytes given are part of a large buffer.
      const id = Buffer.from(blocks.subarray(i * hashBytes, (i + 1) * hashBytes))
      this.fresh.set(id.toString('latin1'), { id, row: { name, sealedBytes } })
    })
    await this.took(fresh.blocks, fresh.bytes)
  }

  /** The files of a pack that is here are found from the next commit on. */
  indexPack(ref: ChunkRef, files: readonly PackedFile[]): void {
    const pack = packId(ref.name)
    const rows = files.map(({ id: contentId, offset, bytes }) => {
      const id = partId(contentId)
      return Buffer.concat([id, partEncoding.encode(partRow(id, { pack, offset, bytes }))])
    })
    this.indexParts(ref, Buffer.concat(rows))
  }

  /** @param rows keys and rows of its files, partRowBytes each; they must not change afterwards */
  indexParts({ name, key, plainBytes, sealedBytes }: ChunkRef, rows: Buffer): void {
    const ref = { name: Buffer.from(name), key, plainBytes, sealedBytes }
    const pack = packId(ref.name)
    const other = this.pack(pack)
    if (other && !other.name.equals(name)) return
    this.freshPacks.set(pack.toString('latin1'), { id: pack, row: packRow(this.nodeKey, ref) })
    for (let at = 0; at < rows.length; at += partRowBytes) {
      const id = rows.toString('latin1', at, at + partIdBytes)
      this.freshParts.set(id, rows.subarray(at, at + partRowBytes))
    }
  }

  /** Seals a node and takes it in. */
  async addNode(plain: Buffer): Promise<NodeRef> {
    const { ref, bytes } = sealNode(this.nodeKey, plain, nodeLevel)
    if (await this.add(ref.name, bytes)) this.freshNodes.set(ref.name.toString('latin1'), ref.name)
    return ref
  }

  /** Whether it was not here. */
  private async add(name: Buffer, sealed: Buffer): Promise<boolean> {
    if (!(await this.blocks.put(name, sealed))) return false
    await this.took(1, sealed.length)
    return true
  }

  private async took(blocks: number, bytes: number): Promise<void> {
    this.newBlocks += blocks
    this.newBytes += bytes
    this.sinceCommit += bytes
    if (this.sinceCommit >= commitBytes) await this.commit()
  }

  /** All that came in before is durable when this resolves, together with the writes of `also`. */
  commit(also?: () => void): Promise<void> {
    this.sinceCommit = 0
    const done = this.committing.then(() => this.commitNow(also))
    this.committing = done.catch(() => undefined)
    return done
  }

  private async commitNow(also?: () => void): Promise<void> {
    const taken = [...this.fresh.entries()]
    const nodes = [...this.freshNodes]
    const packs = [...this.freshPacks]
    const parts = [...this.freshParts]
    const blocks = this.newBlocks
    const bytes = this.newBytes
    await this.blocks.commit(() => {
      for (const [, { id, row }] of taken) this.state.chunks.put(id, row)
      let number = Math.max(0, ...this.state.made.keysOf({ reverse: true, limit: 1 }))
      for (const [, name] of nodes) this.state.made.put(++number, name)
      for (const [, { id, row }] of packs) this.state.packs.put(id, row)
      for (const [, row] of parts)
        this.state.parts.putEncoded(row.subarray(0, partIdBytes), row.subarray(partIdBytes))
      this.account(blocks - this.accountedBlocks, bytes - this.accountedBytes)
      also?.()
    })
    this.accountedBlocks = blocks
    this.accountedBytes = bytes
    for (const [key] of taken) this.fresh.delete(key)
    for (const [key] of nodes) this.freshNodes.delete(key)
    settle(this.freshPacks, packs)
    settle(this.freshParts, parts)
  }
}

/** Takes away what was written, unless it was set anew meanwhile. */
function settle<V>(fresh: Map<string, V>, written: readonly [string, V][]): void {
  for (const [key, value] of written) if (fresh.get(key) === value) fresh.delete(key)
}
