/** The chunk index from a snapshot's own nodes, after it was lost or a volume was imported. */
import type { BlockStore } from '../blocks/block-store.js'
import type { Database } from '../blocks/database.js'
import type { Entry } from '../format/node.js'
import { chunkId } from '../format/seal.js'
import type { ChunkRow, VolumeState } from './state.js'
import type { TreeReader } from './tree-reader.js'

const batchRows = 5000

/** Walks the newest snapshot; only chunks whose blocks are held here get a row. */
export async function indexHeldChunks(
  db: Database,
  blocks: BlockStore,
  state: VolumeState,
  reader: TreeReader,
): Promise<{ chunks: number }> {
  const rows: { id: Buffer; row: ChunkRow }[] = []
  let chunks = 0
  const flush = async () => {
    const batch = rows.splice(0)
    chunks += batch.length
    await db.transaction(() => {
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
          if (extent.kind !== 'chunk' || !blocks.has(extent.chunk.name)) continue
          const { name, sealedBytes, key } = extent.chunk
          rows.push({ id: chunkId(key), row: { name, sealedBytes } })
        }
        if (rows.length >= batchRows) await flush()
      }
    }
  }
  await flush()
  return { chunks }
}
