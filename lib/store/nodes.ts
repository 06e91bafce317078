/**
 * Nodes of snapshots, from blocks: fetched, verified against their references, decoded strictly, and the decoded ones
 * that are in use kept in memory. Nodes are immutable, so that what is cached never grows stale.
 */
import type { BlockReader } from '../blocks/block-store.js'
import { KithError } from '../base/errors.js'
import { decodeDirectoryNode, decodeFileNode, type DirectoryNode, type FileNode } from '../format/node.js'
import { openChunkAside, openNode, type ChunkRef, type NodeRef } from '../format/seal.js'
import { decodeSnapshotNode, type SnapshotNode } from '../format/snapshot-list.js'
import { WeightedCache } from './lru.js'

type AnyNode = DirectoryNode | FileNode | SnapshotNode

/** Plaintext bytes of the nodes kept decoded; they take some five times as much memory. */
const cachedNodeBytes = 4 * 1024 * 1024

export class Nodes {
  private readonly cache = new WeightedCache<{ node: AnyNode; bytes: number }>(
    cachedNodeBytes,
    ({ bytes }) => bytes,
  )

  constructor(
    private readonly blocks: BlockReader,
    /** 32 bytes: the volume's node key */
    private readonly nodeKey: Buffer,
  ) {}

  /** @throws KithError damaged when the node is missing, or is not what the reference says */
  directory(ref: NodeRef): Promise<DirectoryNode> {
    return this.load(ref, 'directory', decodeDirectoryNode)
  }

  file(ref: NodeRef): Promise<FileNode> {
    return this.load(ref, 'file', decodeFileNode)
  }

  snapshots(ref: NodeRef): Promise<SnapshotNode> {
    return this.load(ref, 'snapshots', decodeSnapshotNode)
  }

  /** Remembers a node that was just made. */
  remember(ref: NodeRef, node: AnyNode, bytes: number): void {
    this.cache.set(ref.name.toString('latin1'), { node, bytes })
  }

  private async load<N extends AnyNode>(
    ref: NodeRef,
    kind: N['kind'],
    decode: (plain: Buffer) => N,
  ): Promise<N> {
    const { node } = await this.cache.through(ref.name.toString('latin1'), async () => {
      const plain = openNode(this.nodeKey, ref, await fetchBlock(this.blocks, ref.name))
      return { node: decode(plain), bytes: plain.length }
    })
    if (node.kind !== kind) throw new KithError('damaged', `a ${kind} node is damaged: it is of another kind`)
    return node as N
  }
}

/** The sealed bytes. @throws KithError damaged when they are missing */
export async function fetchBlock(blocks: BlockReader, name: Buffer): Promise<Buffer> {
  const bytes = await blocks.get(name)
  if (bytes) return bytes
  const short = name.toString('hex', 0, 6)
  throw new KithError(
    'damaged',
    `block ${short} is missing here, and missing or damaged at every partner on line: bring another one on line`,
  )
}

export async function fetchChunk(blocks: BlockReader, ref: ChunkRef): Promise<Buffer> {
  return openChunkAside(ref, await fetchBlock(blocks, ref.name))
}
