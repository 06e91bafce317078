/**
 * Which blocks the snapshots of a volume reach. A mark is a bit by the block's sequence number (blocks/block-store.ts): a
 * million blocks take 125 KB, where a set of their names would take 100 MB. What is marked is not walked again, so that
 * marking what a later snapshot added costs what it added.
 *
 * A block with no number is not here, but may be with partners: a chunk needs no mark then; a node is fetched, since
 * what lies below it may be here. One that cannot be read at all ends the marking: nothing may be swept by half a walk.
 */
import type { BlockReader, BlockStore } from '../blocks/block-store.js'
import { KithError } from '../base/errors.js'
import type { Entry, FileContent } from '../format/node.js'
import type { NodeRef } from '../format/seal.js'
import { Nodes } from './nodes.js'

/** A block that a snapshot names. */
interface Ref {
  name: Buffer
  sealedBytes: number
}

type Step = { kind: 'directory' | 'file' | 'snapshots'; ref: NodeRef }

/** Nodes opened at once: each waits for the disk. */
const atOnce = 8

export class Marks {
  private bits = new Uint8Array(4096)

  has(sequence: number): boolean {
    return ((this.bits[sequence >>> 3] ?? 0) & (1 << (sequence & 7))) !== 0
  }

  add(sequence: number): void {
    const at = sequence >>> 3
    if (at >= this.bits.length) {
      const grown = new Uint8Array(Math.max(at + 1, this.bits.length * 2))
      grown.set(this.bits)
      this.bits = grown
    }
    this.bits[at] = (this.bits[at] ?? 0) | (1 << (sequence & 7))
  }
}

/** Marks what one volume reaches. */
export class Marker {
  private readonly nodes: Nodes
  /** Nodes that are not here, by name. */
  private readonly elsewhere = new Set<string>()
  private readonly stack: Step[] = []
  /** Blocks marked, which are here. */
  blocks = 0
  bytes = 0

  constructor(
    private readonly store: BlockStore,
    reader: BlockReader,
    nodeKey: Buffer,
    private readonly marks: Marks,
    private readonly signal?: AbortSignal,
  ) {
    this.nodes = new Nodes(reader, nodeKey)
  }

  /** The node is in use; what is below it, too, after walk(). */
  push(kind: Step['kind'], ref: NodeRef): void {
    if (this.isNew(ref)) this.stack.push({ kind, ref })
  }

  /** What a file holds is in use. */
  file(content: FileContent): void {
    if (content.kind === 'list') this.push('file', content.node)
    if (content.kind !== 'extents') return
    for (const extent of content.extents) if (extent.kind !== 'hole') this.isNew(extent.chunk)
  }

  /** Marks all below what was pushed. @throws KithError damaged when a node cannot be had */
  async walk(): Promise<void> {
    while (this.stack.length > 0) {
      if (this.signal?.aborted) throw new KithError('cancelled', 'cancelled')
      await Promise.all(this.stack.splice(-atOnce).map((step) => this.open(step)))
    }
  }

  private async open({ kind, ref }: Step): Promise<void> {
    if (kind === 'directory') {
      const node = await this.nodes.directory(ref)
      if ('entries' in node) for (const entry of node.entries) this.entry(entry)
      else for (const child of node.children) this.push('directory', child.node)
    } else if (kind === 'file') {
      const node = await this.nodes.file(ref)
      if ('extents' in node) this.file({ kind: 'extents', extents: node.extents })
      else for (const child of node.children) this.push('file', child.node)
    } else {
      const node = await this.nodes.snapshots(ref)
      if ('records' in node) for (const record of node.records) this.push('directory', record.root.node)
      else for (const child of node.children) this.push('snapshots', child.node)
    }
  }

  private entry(entry: Entry): void {
    if (entry.type === 'directory') this.push('directory', entry.node)
    else if (entry.type === 'file') this.file(entry.content)
  }

  private isNew({ name, sealedBytes }: Ref): boolean {
    const sequence = this.store.sequence(name)
    if (sequence === undefined) {
      const id = name.toString('latin1')
      if (this.elsewhere.has(id)) return false
      this.elsewhere.add(id)
      return true
    }
    if (this.marks.has(sequence)) return false
    this.marks.add(sequence)
    this.blocks++
    this.bytes += sealedBytes
    return true
  }
}
