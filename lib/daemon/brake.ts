/**
 * The ransomware brake: from what the intake counts (store/rewrites.ts) to the snapshot that must be kept. Pure.
 *
 * It looks at the files that were read because they changed or are new, in the last minute, two, three, and so on up to an
 * hour, by a clock that never goes back. It alarms when for one of these times all of this holds:
 *
 *   - at least 40 of them are scrambled: fewer is somebody encrypting some letters
 *   - they are at least half of those read: unpacking, builds and upgrades bring mostly what compresses or is new
 *   - they are at least a tenth of the files of the volume, or 2,000: encrypting one folder of many is no attack
 *
 * The snapshot to keep is the newest one from before that time, or from before the minutes ahead of it in which most of what was
 * read was scrambled, too.
 *
 * One attack is one alarm: the next can come only after an hour without a scrambled file. Memory: a few numbers for each
 * minute of the hour.
 *
 * What it does not see: content that still compresses (base64), files that are encrypted in part only, files of less than
 * 512 bytes, small ones that came into one block with others that compress, and what goes so slowly that an hour shows no
 * tenth. A daemon that starts anew counts anew.
 */
import type { RewriteCounts } from '../store/rewrites.js'

const minuteMs = 60_000
export const windowMs = 60 * minuteMs
export const leastFiles = 40
const leastShare = 0.5
const leastOfVolume = 0.1
const enoughFiles = 2000

/** What was read in one minute, after one snapshot and before the next. */
interface Bucket<S> extends RewriteCounts {
  minute: number
  before: S
}

export interface Alarm<S> extends RewriteCounts {
  /** the newest snapshot from before it began */
  keep: S
}

/** S stands for snapshots. */
export class Brake<S> {
  private buckets: Bucket<S>[] = []
  private isAlarmed = false

  /**
   * @param before the newest snapshot from before the files were read
   * @param ofVolume files in it
   * @param now ms, monotonic
   * @returns an alarm, again at each call until `acknowledge` was called
   */
  note({ files, scrambled }: RewriteCounts, before: S, ofVolume: number, now: number): Alarm<S> | undefined {
    const minute = Math.floor(now / minuteMs)
    this.buckets = this.buckets.filter((bucket) => (minute - bucket.minute) * minuteMs < windowMs)
    const last = this.buckets.at(-1)
    if (last?.minute === minute && last.before === before) {
      last.files += files
      last.scrambled += scrambled
    } else if (files > 0) this.buckets.push({ minute, before, files, scrambled })
    if (!this.buckets.some((bucket) => bucket.scrambled > 0)) this.isAlarmed = false
    if (this.isAlarmed) return undefined
    return this.attack(Math.max(leastFiles, Math.min(enoughFiles, ofVolume * leastOfVolume)))
  }

  /** What was alarmed of is taken care of. */
  acknowledge(): void {
    this.isAlarmed = true
  }

  /** Back to when so many were scrambled, and at least the share of those read; then on, as far as that was so all the time. */
  private attack(enough: number): Alarm<S> | undefined {
    const sums = { files: 0, scrambled: 0 }
    let found: Alarm<S> | undefined
    for (const { files, scrambled, before } of this.buckets.toReversed()) {
      if (found && scrambled < files * leastShare) break
      sums.files += files
      sums.scrambled += scrambled
      if (found || (sums.scrambled >= enough && sums.scrambled >= sums.files * leastShare))
        found = { ...sums, keep: before }
    }
    return found
  }
}
