/**
 * Rows without which a volume cannot be opened: its keys and its table of snapshots. Both follow from its head, which is
 * signed, so a row that is damaged, or says something else, is written anew from there when the store is opened. Without a
 * good head everything is left as it is,
 * and opening says what is wrong.
 */
import type { BlockReader } from '../blocks/block-store.js'
import type { Database, Table } from '../blocks/database.js'
import type { Log } from '../base/log.js'
import { decodeHead, openOwnerState, type Head } from '../format/head.js'
import { unwrapVolumeKeys, type Identity, type VolumeKeys } from '../format/keys.js'
import type { SnapshotRecord } from '../format/snapshot-list.js'
import { VolumeState } from './state.js'
import { TreeReader } from './tree-reader.js'
import type { VolumeRow } from './volume.js'

export interface MendOptions {
  db: Database
  blocks: BlockReader
  rows: Table<Buffer, VolumeRow>
  heads: Table<Buffer, Buffer>
  identity: Identity
  log: Log
}

export async function mendVolumes(options: MendOptions): Promise<void> {
  for (const id of [...options.rows.keysOf()].map((key) => Buffer.from(key))) {
    const row = sound(() => options.rows.get(id))
    const keys = row && sound(() => unwrap(options.identity, id, row.wrappedKeys))
    const state = new VolumeState(options.db, id)
    const head = sound(() => headOf(options, id))
    if (!head) continue
    if (!keys) await mendKeys(options, id, row, head)
    await mendSnapshots(options, id, state, head)
  }
}

async function mendKeys(
  { db, rows, identity, log }: MendOptions,
  id: Buffer,
  row: VolumeRow | undefined,
  { wrappedKeys, blocks, bytes, sealedState }: Head,
): Promise<void> {
  const { label } = openOwnerState(identity.kek, identity.id, id, sealedState)
  await db.transaction(() => rows.put(id, { dir: row?.dir ?? label, wrappedKeys, blocks, bytes }))
  log.warn({ volume: id.toString('hex') }, 'the row of the volume was damaged: written anew from its head')
}

async function mendSnapshots(
  { db, blocks, identity, log }: MendOptions,
  id: Buffer,
  state: VolumeState,
  head: Head,
): Promise<void> {
  const keys = unwrap(identity, id, head.wrappedKeys)
  const records = await new TreeReader({ blocks, keys, snapshots: () => head.snapshots })
    .records()
    .catch(() => undefined)
  const rows = sound(() => [...state.snapshots.range()].map(({ value }) => value))
  if (!records || (rows && sameRecords(rows, records))) return
  await db.transaction(() => {
    state.snapshots.clear()
    records.forEach((record, i) => state.snapshots.put(i + 1, record))
  })
  log.warn({ volume: id.toString('hex') }, 'the table of snapshots was damaged: written anew from their list')
}

/** Whether a table of snapshots says what their list says. */
export function sameRecords(rows: readonly SnapshotRecord[], list: readonly SnapshotRecord[]): boolean {
  return (
    rows.length === list.length &&
    rows.every(({ id, time, ordinal, root }, i) => {
      const other = list[i]
      return (
        other?.id.equals(id) === true &&
        other.time === time &&
        other.ordinal === ordinal &&
        other.root.node.name.equals(root.node.name)
      )
    })
  )
}

function headOf({ heads, identity }: MendOptions, id: Buffer): Head | undefined {
  const bytes = heads.get(id)
  const head = bytes && decodeHead(bytes)
  return head?.owner.equals(identity.id) && head.volumeId.equals(id) ? head : undefined
}

function unwrap(identity: Identity, id: Buffer, wrapped: Buffer): VolumeKeys {
  return unwrapVolumeKeys(identity.kek, identity.id, id, wrapped)
}

/** What `read` gives, undefined when it fails: rows are told damaged by their decoders. */
function sound<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
