/** What the tables of a volume have in use beside its snapshots, and what of them names nothing any more (prune.ts). */
import type { BlockStore } from '../blocks/block-store.js'
import type { Database, Table } from '../blocks/database.js'
import type { Marker } from './marks.js'
import { isSoundPack, isSoundPart } from './parts.js'
import type { ChunkRow, VolumeState } from './state.js'

/** Rows of a table looked at in one go. */
const rowsAtOnce = 2000

/** Directories from which the next snapshot goes on. */
export async function markTables({ directories }: VolumeState, marker: Marker): Promise<void> {
  for (let start: bigint | undefined = 0n; start !== undefined;) {
    let last: bigint | undefined
    for (const { key, value } of directories.range({ start, limit: rowsAtOnce })) {
      marker.push('directory', value.node)
      last = key
    }
    await marker.walk()
    start = last === undefined ? undefined : last + 1n
  }
}

/** Takes away rows of chunks, parts and nodes whose blocks are gone. */
export async function dropDeadRows(db: Database, blocks: BlockStore, state: VolumeState): Promise<void> {
  const isGone = (name: Buffer) => blocks.sequence(name) === undefined
  await dropRows(db, state.chunks, ({ name }) => isGone(name))
  await dropRows(db, state.packs, ({ name }) => isGone(name))
  await dropRows(db, state.parts, ({ pack }) => !state.packs.has(pack))
  await dropRows(db, state.nodes, (_, name) => isGone(name))
}

/** Takes away rows of the index of chunks that are not as they were written: what they are of is only not found by them. */
export async function dropWrongRows(db: Database, blocks: BlockStore, state: VolumeState): Promise<number> {
  const isWrong = ({ name, sealedBytes }: ChunkRow) => (blocks.size(name) ?? sealedBytes) !== sealedBytes
  const chunks = await dropRows(db, state.chunks, isWrong)
  const packs = await dropRows(db, state.packs, (row, id) => isWrong(row) || !isSoundPack(id, row))
  const parts = await dropRows(db, state.parts, (row, id) => !isSoundPart(id, row))
  return chunks + packs + parts
}

async function dropRows<V>(
  db: Database,
  table: Table<Buffer, V>,
  isDead: (value: V, key: Buffer) => boolean,
): Promise<number> {
  let count = 0
  let start: Buffer | undefined
  do {
    const dead: Buffer[] = []
    let last: Buffer | undefined
    for (const { key, value } of table.range({ ...(start && { start }), limit: rowsAtOnce })) {
      if (isDead(value, key)) dead.push(Buffer.from(key))
      last = key
    }
    count += dead.length
    if (dead.length > 0) await db.transaction(() => dead.forEach((key) => table.remove(key)))
    start = last && Buffer.concat([last, Buffer.alloc(1)])
    await new Promise((resolve) => setImmediate(resolve))
  } while (start)
  return count
}
