/**
 * One protected directory: its volume in the store, its mount, and what flows between the two.
 *
 *     change log --take--> recordChanges (durable) --done--> forgotten by the log
 *     mount.sync, take, recordChanges, volume.snapshot --> partners are woken, `.snapshots` shows it
 *
 * Everything that touches the volume's change set or takes a snapshot runs in one queue, so that a snapshot never sees
 * half of a taken batch. A step that fails (a full disk, say) leaves the log as it was: the same changes are taken again
 * later. The live tree never waits for any of this.
 *
 * States: unmounted; mounted; lost, when kith-fuse died under us: files are then out of reach until `kith mount`.
 */
import type { Clock, Timer } from '../base/clock.js'
import { asKithError, KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { BlockReader } from '../blocks/block-store.js'
import { Mount } from '../mount/mount.js'
import type { ProtectedVolume as StoredVolume, SnapshotOptions, SnapshotResult } from '../store/types.js'
import type { TreeReader } from '../store/tree-reader.js'

/** After a failed intake the next try waits so long. */
const retryMs = 5000
/** One that failed by itself or by command is tried again. */
const retrySnapshotMs = 60_000
/** The first snapshot by itself, after mounting. */
const firstSnapshotMs = 60_000
/** A burst of changes is taken together. */
const gatherMs = 200

export interface ProtectedVolumeOptions {
  home: string
  clock: Clock
  log: Log
  /** where blocks come from that are not here: partners */
  remote: BlockReader
  /** a new snapshot was committed */
  onSnapshot(): void
}

export class ProtectedVolume {
  readonly stored: StoredVolume
  readonly id: string
  #options: ProtectedVolumeOptions
  #mount: Mount | undefined
  #lost = false
  #queue: Promise<unknown> = Promise.resolve()
  #intake: Timer | undefined
  /** why the last intake, the last snapshot failed */
  #problems: { intake?: string; snapshot?: string } = {}
  #failedAt: number | undefined
  /** monotonic: when it was mounted, and when a snapshot was taken since */
  #mountedAt = 0
  #takenAt: number | undefined
  /** snapshots asked for and not yet done: while there are any, the schedule asks for no more */
  #taking = 0
  /** ends a running snapshot when the mount goes */
  #leaving = new AbortController()
  #reader: TreeReader | undefined

  constructor(stored: StoredVolume, options: ProtectedVolumeOptions) {
    this.stored = stored
    this.id = stored.id.toString('hex')
    this.#options = options
  }

  get dir(): string {
    return this.stored.dir
  }

  get state(): 'mounted' | 'lost' | 'unmounted' {
    if (this.#mount) return 'mounted'
    return this.#lost ? 'lost' : 'unmounted'
  }

  /** Whether anything changed since the last snapshot, as far as is known. */
  get changed(): boolean {
    const { inodes, everything } = this.stored.pending()
    return everything || inodes > 0
  }

  /** Reads the snapshots, with blocks from here and from partners. */
  get reader(): TreeReader {
    return (this.#reader ??= this.stored.reader(this.stored.adopting(this.#options.remote)))
  }

  get problems(): string[] {
    const problems = [...new Set(Object.values(this.#problems))]
    if (this.#lost) {
      problems.push(`kith-fuse, which serves ${this.dir}, has died; mount again: kith mount ${this.dir}`)
    }
    return problems
  }

  /** Mounts. A new log says that changes may have been missed, and so everything is looked at once. */
  async mount(): Promise<void> {
    this.#attach(await Mount.start(this.#mountOptions()))
  }

  /** Takes over the mount that an earlier daemon left running; false when there is none. */
  async reattach(): Promise<boolean> {
    const mount = await Mount.reattach(this.#mountOptions())
    if (mount) this.#attach(mount)
    return mount !== undefined
  }

  /** kith-fuse died while no daemon ran. */
  markLost(): void {
    this.#lost = true
  }

  /** Unmounts after the last changes are recorded. Returns the files that programs still hold open. */
  async unmount(): Promise<string[]> {
    if (this.#lost) await this.mount() // clears the dead mount away
    const mount = this.#mounted()
    this.#leaving.abort()
    return this.#exclusive(async () => {
      await this.#record(mount).catch((error: unknown) => this.#failed('intake', error))
      this.#release()
      return (await mount.stop()).stillOpen
    })
  }

  /** Lets go of the mount, which stays and is served by kith-fuse. */
  async detach(): Promise<void> {
    const mount = this.#mount
    this.#leaving.abort()
    this.#release()
    await this.#exclusive(async () => mount?.detach())
  }

  /** Whether the schedule asks for a snapshot: soon after mounting, then every so often, when something changed. */
  isDue(everyMs: number): boolean {
    if (!this.#mount || !this.changed || this.#taking > 0) return false
    const next = this.#takenAt === undefined ? this.#mountedAt + firstSnapshotMs : this.#takenAt + everyMs
    const due = this.#failedAt === undefined ? next : Math.min(next, this.#failedAt + retrySnapshotMs)
    return this.#options.clock.monotonic() >= due
  }

  /** Takes a snapshot now. */
  async snapshot({ signal, progress }: SnapshotOptions = {}): Promise<SnapshotResult> {
    const mount = this.#mounted()
    const ends = signal ? AbortSignal.any([signal, this.#leaving.signal]) : this.#leaving.signal
    this.#taking++
    const info = await this.#exclusive(async () => {
      await mount.sync()
      await this.#record(mount)
      return this.stored.snapshot(mount.rootFd, { signal: ends, ...(progress && { progress }) })
    })
      .catch((error: unknown) => {
        this.#failed('snapshot', error)
        throw error
      })
      .finally(() => this.#taking--)
    this.#problems = {}
    this.#failedAt = undefined
    this.#takenAt = this.#options.clock.monotonic()
    this.#options.onSnapshot()
    if (this.#mount === mount) await mount.snapshotsChanged()
    return info
  }

  #mountOptions() {
    const { home, clock, log } = this.#options
    return { dir: this.dir, home, volumeId: this.stored.id, clock, log }
  }

  #mounted(): Mount {
    if (this.#mount) return this.#mount
    const why = this.#lost ? 'is not served any more (kith-fuse died)' : 'is not mounted'
    throw new KithError('notFound', `${this.dir} ${why}; mount it by: kith mount ${this.dir}`)
  }

  #attach(mount: Mount): void {
    const { log } = this.#options
    this.#mount = mount
    this.#lost = false
    this.#mountedAt = this.#options.clock.monotonic()
    this.#takenAt = undefined
    this.#leaving = new AbortController()
    mount.serve({
      list: () => this.stored.snapshots(),
      reader: () => this.reader,
    })
    mount.on('wake', () => this.#schedule(gatherMs))
    mount.on('lost', () => {
      if (this.#mount !== mount) return
      log.error({ volume: this.id }, 'kith-fuse died')
      this.#release()
      this.#lost = true
      // A snapshot that is being taken reads on through the directory's own descriptor.
      void this.#exclusive(async () => mount.detach())
    })
    mount.on('replaced', () => {
      if (this.#mount !== mount) return
      log.error({ volume: this.id }, 'another daemon took the mount over')
      this.#release()
      void this.#exclusive(async () => mount.detach())
    })
    this.#schedule(0)
  }

  #release(): void {
    this.#mount = undefined
    this.#intake?.cancel()
    this.#intake = undefined
  }

  #schedule(ms: number): void {
    if (this.#intake || !this.#mount) return
    const mount = this.#mount
    this.#intake = this.#options.clock.after(ms, () => {
      this.#intake = undefined
      this.#exclusive(() => this.#record(mount)).then(
        () => delete this.#problems.intake,
        (error: unknown) => {
          this.#failed('intake', error)
          this.#schedule(retryMs)
        },
      )
    })
  }

  /** Makes what changed durable in the store, then forgets it in the log. In the queue only. */
  async #record(mount: Mount): Promise<void> {
    const { changes, lost } = await mount.take()
    if (lost) await this.stored.recordEverything()
    else if (changes.length > 0) await this.stored.recordChanges(changes)
    await mount.done()
  }

  #exclusive<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#queue.catch(() => undefined).then(step)
    this.#queue = result.catch(() => undefined)
    return result
  }

  #failed(what: 'intake' | 'snapshot', error: unknown): void {
    const { clock, home, log } = this.#options
    const { code, message } = asKithError(error)
    if (code === 'cancelled') return
    log.warn({ volume: this.id, code, message }, `${what} failed`)
    if (what === 'snapshot') this.#failedAt = clock.monotonic()
    this.#problems[what] =
      code === 'noSpace'
        ? `no space left in ${home}: files are safe, backups wait until there is room`
        : `the last ${what} failed: ${message}`
  }
}
