/** What is told of a snapshot, and how a name given by the user finds one. */
import { KithError } from '../base/errors.js'
import { parseSnapshotName, snapshotName, type SnapshotRecord } from '../format/snapshot-list.js'

export interface SnapshotInfo {
  /** exact instant in UTC, like 2024-06-01T09-30-00Z, or with -2, -3, ... within one second */
  name: string
  /** hex of 16 bytes */
  id: string
  /** milliseconds since 1970 */
  time: number
  /** names below the root that are no directories */
  files: number
  /** their bytes */
  bytes: number
  /** names of files that were written to through every try to read them at rest */
  busy: number
  /** sealed bytes that it added to the store */
  bytesNew: number
  /** no rule forgets it */
  pinned: boolean
  tags: string[]
}

export function infoOf(record: SnapshotRecord): SnapshotInfo {
  return {
    name: snapshotName(record.time, record.ordinal),
    id: record.id.toString('hex'),
    time: record.time,
    files: record.root.totals.files,
    bytes: record.root.totals.bytes,
    busy: record.root.totals.busy,
    bytesNew: record.bytesNew,
    pinned: record.pinned,
    tags: record.tags,
  }
}

/**
 * The snapshot that `name` means: an exact instant, a local day (`2024-06-01`, its last snapshot) or `latest`. Takes
 * them oldest first.
 * @throws KithError notFound
 */
export function findSnapshot<T extends { time: number; ordinal: number }>(
  records: readonly T[],
  name: string,
): T {
  const found = name === 'latest' ? records.at(-1) : (exact(records, name) ?? lastOfDay(records, name))
  if (found) return found
  const hint = records.length === 0 ? 'there is none yet' : '`kith snapshots` lists them'
  throw new KithError('notFound', `no snapshot ${JSON.stringify(name)}: ${hint}`)
}

/**
 * The snapshot that `name` names alone: its exact instant, `latest`, or eight or more digits of its id; a day may mean
 * many, and is none here.
 * @throws KithError notFound
 */
export function exactSnapshot<T extends { id: Buffer; time: number; ordinal: number }>(
  records: readonly T[],
  name: string,
): T {
  const found = name === 'latest' ? records.at(-1) : (exact(records, name) ?? byId(records, name))
  if (found) return found
  throw new KithError(
    'notFound',
    `no snapshot ${JSON.stringify(name)}: give its exact name, as \`kith snapshots\` lists it`,
  )
}

function byId<T extends { id: Buffer }>(records: readonly T[], name: string): T | undefined {
  if (!/^[0-9a-f]{8,32}$/.test(name)) return undefined
  const [found, ...others] = records.filter(({ id }) => id.toString('hex').startsWith(name))
  return others.length === 0 ? found : undefined
}

function exact<T extends { time: number; ordinal: number }>(
  records: readonly T[],
  name: string,
): T | undefined {
  const wanted = parseSnapshotName(name)
  if (!wanted) return undefined
  return records.find(
    (record) => Math.floor(record.time / 1000) * 1000 === wanted.second && record.ordinal === wanted.ordinal,
  )
}

function lastOfDay<T extends { time: number }>(records: readonly T[], name: string): T | undefined {
  if (!/^\d{4}-\d\d-\d\d$/.test(name)) return undefined
  return records.findLast((record) => localDay(record.time) === name)
}

/** The day of an instant in this machine's time zone, like 2024-06-01. */
export function localDay(time: number): string {
  const date = new Date(time)
  const digits = (value: number, width: number) => String(value).padStart(width, '0')
  return `${digits(date.getFullYear(), 4)}-${digits(date.getMonth() + 1, 2)}-${digits(date.getDate(), 2)}`
}
