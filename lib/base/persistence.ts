/**
 * The places where something becomes durable, by name, and faults made there by tests: each place says `reached` just before
 * it acts. What lies between two places is memory only, so that a process killed at each of them in turn has been killed
 * at every moment that matters. (LMDB's own commit is atomic by its design, and counts as one place.)
 *
 * Faults are asked for by the environment, and only in a process that is marked as a test's, KITH_TEST=1:
 *     KITH_FAULT=kill:N         the process kills itself (SIGKILL) at the Nth place reached
 *     KITH_FAULT=noSpace        about every other place that needs room fails with ENOSPC, the first of each kind for sure
 *     KITH_FAULT=trace:FILE     appends the name of each place reached to the file
 * Otherwise nothing is counted.
 */
import { appendFileSync } from 'node:fs'

/** Name -> whether it takes room on the disk. */
export const persistencePoints = {
  /** blocks into a segment file; their fdatasync; the names of segment files */
  segmentWrite: true,
  segmentSync: false,
  segmentFolderSync: false,
  segmentTruncate: false,
  segmentRemove: false,
  /** an LMDB transaction: index, tables, heads, snapshot list, dirty set, book, vault, circles */
  indexCommit: true,
  /** an LMDB transaction is on disk, and nobody has been told */
  indexCommitted: false,
  /** small files of the home: keys, settings, marks */
  fileWrite: true,
  fileSync: false,
  fileRename: false,
  folderSync: false,
  markRemove: false,
} as const

export type PersistencePoint = keyof typeof persistencePoints

type Fault = (point: PersistencePoint) => void

const fault = process.env.KITH_TEST === '1' ? faultOf(process.env.KITH_FAULT ?? '') : undefined

/** @throws an ENOSPC of the system's kind when a test asked for it */
export function reached(point: PersistencePoint): void {
  if (fault) fault(point)
}

function faultOf(text: string): Fault | undefined {
  if (text === 'noSpace') return noSpace()
  if (text.startsWith('trace:')) return (point) => appendFileSync(text.slice(6), `${point}\n`)
  const at = /^kill:(\d+)$/.exec(text)?.[1]
  if (at === undefined) return undefined
  let left = Number(at)
  return () => {
    if (--left === 0) process.kill(process.pid, 'SIGKILL')
  }
}

function noSpace(): Fault {
  const times = new Map<PersistencePoint, number>()
  return (point) => {
    if (!persistencePoints[point]) return
    const time = (times.get(point) ?? 0) + 1
    times.set(point, time)
    // Without a period, which a step of several writes that is tried again could fall in with.
    const mixed = Math.imul(time ^ (time >>> 3), 0x9e3779b1)
    if (time === 1 || ((mixed ^ (mixed >>> 15)) & 4) !== 0)
      throw Object.assign(new Error(`ENOSPC: no space left on device (${point})`), { code: 'ENOSPC' })
  }
}
