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
  await dropRows(db, state.chunks, byBytes, ({ name }) => isGone(name))
  await dropRows(db, state.packs, byBytes, ({ name }) => isGone(name))
  await dropRows(db, state.parts, byBytes, ({ pack }) => !state.packs.has(pack))
  await dropRows(db, state.made, byNumber, isGone)
  await dropRows(db, state.nodes, byBytes, (_, name) => isGone(name))
}

/** Takes away rows of the index of chunks that are not as they were written: what they are of is only not found by them. */
export async function dropWrongRows(db: Database, blocks: BlockStore, state: VolumeState): Promise<number> {
  const isWrong = ({ name, sealedBytes }: ChunkRow) => (blocks.size(name) ?? sealedBytes) !== sealedBytes
  const chunks = await dropRows(db, state.chunks, byBytes, isWrong)
  const packs = await dropRows(db, state.packs, byBytes, (row, id) => isWrong(row) || !isSoundPack(id, row))
  const parts = await dropRows(db, state.parts, byBytes, (row, id) => !isSoundPart(id, row))
  return chunks + packs + parts
}

/** How one goes through a table: a key that may be kept, and the first one that may follow it. */
interface Keys<K> {
  kept: (key: K) => K
  after: (key: K) => K
}

const byBytes: Keys<Buffer> = {
  kept: (key) => Buffer.from(key),
  after: (key) => Buffer.concat([key, Buffer.alloc(1)]),
}
const byNumber: Keys<number> = { kept: (key) => key, after: (key) => key + 1 }

async function dropRows<K, V>(
  db: Database,
  table: Table<K, V>,
  { kept, after }: Keys<K>,
  isDead: (value: V, key: K) => boolean,
): Promise<number> {
  let count = 0
  let start: K | undefined
  do {
    const dead: K[] = []
    let last: K | undefined
    for (const { key, value } of table.range({ ...(start !== undefined && { start }), limit: rowsAtOnce })) {
      if (isDead(value, key)) dead.push(kept(key))
      last = key
    }
    count += dead.length
    if (dead.length > 0) await db.transaction(() => dead.forEach((key) => table.remove(key)))
    start = last === undefined ? undefined : after(last)
    await new Promise((resolve) => setImmediate(resolve))
  } while (start !== undefined)
  return count
}
