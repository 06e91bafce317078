/**
 * The brake of one volume at work: feeds it, pins the snapshot that it says is to be kept, and warns. Nothing is stopped:
 * files are the user's, and backups go on. The pin keeps that snapshot from `forget`, its rules and prune; its tag says why it
 * is pinned, also after a restart, until somebody unpins it.
 */
import type { Clock } from '../base/clock.js'
import { asKithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { MarkChange, ProtectedVolume as StoredVolume, SnapshotInfo } from '../store/types.js'
import { type Alarm, Brake } from './brake.js'

export const alarmTag = 'before-encryption'

export interface RewriteWatchOptions {
  clock: Clock
  log: Log
  mark(names: readonly string[], change: MarkChange): Promise<unknown>
}

export class RewriteWatch {
  readonly #brake = new Brake<string>()
  #pinning = false

  constructor(
    private readonly stored: StoredVolume,
    private readonly options: RewriteWatchOptions,
  ) {}

  /** Each one line. */
  get problems(): string[] {
    return this.stored
      .snapshots()
      .filter(({ pinned, tags }) => pinned && tags.includes(alarmTag))
      .map(
        ({ name }) =>
          `most files that changed after ${name} look encrypted now: that snapshot is pinned, get them back by kith ` +
          `restore ${name}; if it was you: kith unpin ${name}`,
      )
  }

  /** After files were read. */
  async look(): Promise<void> {
    const { clock, log } = this.options
    const now = clock.monotonic()
    let alarm: Alarm<string> | undefined
    for (const { since, ...counts } of this.stored.rewrites.take())
      if (since) alarm = this.#brake.note(counts, since.name, since.files, now) ?? alarm
    const keep = alarm && stillThere(this.stored.snapshots(), alarm.keep)
    if (!alarm || !keep || this.#pinning) return
    this.#pinning = true
    try {
      const { files, scrambled } = alarm
      log.warn(
        { snapshot: keep.name, files, scrambled },
        'files turn into what looks encrypted: the snapshot before is pinned',
      )
      await this.options.mark([keep.name], { pinned: true, addTags: [alarmTag] })
      this.#brake.acknowledge()
    } catch (error) {
      log.error({ error: asKithError(error).message }, 'cannot pin the snapshot from before the encryption')
    } finally {
      this.#pinning = false
    }
  }
}

/** The snapshot of that name, or the newest before it, when it was forgotten meanwhile; of later ones the oldest. Oldest first. */
function stillThere(snapshots: readonly SnapshotInfo[], name: string): SnapshotInfo | undefined {
  const exact = snapshots.find((snapshot) => snapshot.name === name)
  // Names of one second order by their length; those of different ones bytewise.
  return (
    exact ?? snapshots.findLast((snapshot) => snapshot.name.slice(0, 20) <= name.slice(0, 20)) ?? snapshots[0]
  )
}
