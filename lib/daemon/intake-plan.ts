/**
 * Which changed files are to be read ahead, and when: once a file has been quiet for a second, or every 30 s while it
 * stays busy. So a file that lives less than a second is never read. Pure: from what the log says and the time to what is
 * due. Times are of the monotonic clock, in ms.
 *
 * Files at rest come first, and by themselves: what was just saved does not wait until a database or a log that goes on being
 * written was read once more. Busy ones have every other turn at least, some at a time, those that wait longest first; so
 * neither kind holds up the other for longer than a turn.
 *
 * A file that programs may change unseen (open for writing where the kernel writes by itself) is looked at every 30 s
 * until its last writer is gone; that costs a stat while it stays as it was.
 */
import type { Change } from '../format/changes.js'

export const quietMs = 1000
export const busyMs = 30_000
/** Files waited for at a time; what is beyond is left to the snapshot. */
const maxFiles = 100_000
/** In so many turns, all busy files that are due now are read. */
const busyTurns = 16

interface Waiting {
  /** the first change since it was read, and the last */
  first: number
  last: number
  /** may change without being told */
  open: boolean
  /** changed since it was read, as far as was told */
  changed: boolean
}

export class IntakePlan {
  readonly #files = new Map<bigint, Waiting>()
  #restingHadTurn = false

  note(changes: readonly Change[], now: number): void {
    for (const { kind, ino } of changes) {
      if (kind === 'attributes' || kind === 'names') continue
      const file = this.#of(ino, now)
      if (!file) continue
      if (kind === 'open') file.open = true
      else this.#touch(file, now)
      if (kind === 'close') file.open = false
    }
  }

  /** Files that changed at an unknown time, or while they were read. */
  again(inos: readonly bigint[], now: number): void {
    for (const ino of inos) {
      const file = this.#of(ino, now)
      if (file) this.#touch(file, now)
    }
  }

  /** Files that may change unseen, and may have. */
  watch(inos: readonly bigint[], now: number): void {
    for (const ino of inos) {
      const file = this.#of(ino, now)
      if (file) file.open = true
    }
  }

  /** The files to read in this turn; they count as read, and wait for their next change. */
  take(now: number): bigint[] {
    const due = [...this.#files].filter(([, file]) => now >= dueAt(file))
    const resting = due.filter(([, file]) => isAtRest(file, now))
    const busy = due.filter(([, file]) => !isAtRest(file, now)).sort(([, a], [, b]) => a.first - b.first)
    this.#restingHadTurn = resting.length > 0 && !(this.#restingHadTurn && busy.length > 0)
    const turn = this.#restingHadTurn ? resting : busy.slice(0, Math.ceil(busy.length / busyTurns))
    for (const [ino, file] of turn) {
      if (file.open) Object.assign(file, { first: now, last: now, changed: false })
      else this.#files.delete(ino)
    }
    return turn.map(([ino]) => ino)
  }

  /** When something is due next. */
  next(): number | undefined {
    let next: number | undefined
    for (const file of this.#files.values()) next = Math.min(next ?? Infinity, dueAt(file))
    return next
  }

  clear(): void {
    this.#files.clear()
  }

  #of(ino: bigint, now: number): Waiting | undefined {
    const known = this.#files.get(ino)
    if (known || this.#files.size >= maxFiles) return known
    const file = { first: now, last: now, open: false, changed: false }
    this.#files.set(ino, file)
    return file
  }

  #touch(file: Waiting, now: number): void {
    if (!file.changed) file.first = now
    file.last = now
    file.changed = true
  }
}

function dueAt({ first, last, open, changed }: Waiting): number {
  if (open || !changed) return first + busyMs
  return Math.min(last + quietMs, first + busyMs)
}

function isAtRest({ last, open, changed }: Waiting, now: number): boolean {
  return !open && changed && now >= last + quietMs
}
