/** The chunk index from a snapshot's own nodes, after it was lost or a volume was imported. */
import type { BlockStore } from '../blocks/block-store.js'
import { KithError } from '../base/errors.js'
import { bytesOfExtent, type Entry, type PartExtent } from '../format/node.js'
import type { VolumeKeys } from '../format/keys.js'
import { chunkId, chunkKey } from '../format/seal.js'
import type { Intake } from './intake.js'
import type { ChunkRow, VolumeState } from './state.js'
import type { TreeReader } from './tree-reader.js'

const batchRows = 5000

export interface IndexOptions {
  intake: Intake
  blocks: BlockStore
  state: VolumeState
  keys: VolumeKeys
  reader: TreeReader
}

/** Walks the newest snapshot; only chunks whose blocks are held here get a row, and the small files in them. */
export async function indexHeldChunks(options: IndexOptions): Promise<{ chunks: number }> {
  const { intake, blocks, state, reader } = options
  const rows: { id: Buffer; row: ChunkRow }[] = []
  let chunks = 0
  const flush = async () => {
    const batch = rows.splice(0)
    chunks += batch.length
    await intake.commit(() => {
      for (const { id, row } of batch) state.chunks.put(id, row)
    })
  }
  const newest = (await reader.records()).at(-1)
  if (!newest) return { chunks }
  const directories: Entry[] = [newest.root]
  for (let directory = directories.pop(); directory; directory = directories.pop()) {
    for await (const batch of reader.batches(directory)) {
      for (const entry of batch) {
        if (entry.type === 'directory') directories.push(entry)
        if (entry.type !== 'file') continue
        for await (const { extent } of reader.pieces(entry)) {
          if (extent.kind === 'hole' || !blocks.isHere(extent.chunk.name)) continue
          const { name, sealedBytes, key } = extent.chunk
          rows.push({ id: chunkId(key), row: { name, sealedBytes } })
          if (extent.kind === 'part') await indexPart(options, extent)
        }
        if (rows.length >= batchRows) await flush()
      }
    }
  }
  await flush()
  return { chunks }
}

/** Its id is of its bytes, so the pack is opened: once for the files in it, which lie beside each other. */
async function indexPart({ intake, keys, reader }: IndexOptions, part: PartExtent): Promise<void> {
  try {
    const plain = bytesOfExtent(part, await reader.chunk(part.chunk))
    const id = chunkId(chunkKey(keys.convergence, plain))
    intake.indexPack(part.chunk, [{ id, offset: part.offset, bytes: part.bytes }])
  } catch (error) {
    if (!(error instanceof KithError) || error.code !== 'damaged') throw error
  }
}
