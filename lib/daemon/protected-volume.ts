/**
 * One protected directory: its volume in the store, its mount, and what flows between the two.
 *
 *     change log --take--> recordChanges (durable) --done--> forgotten by the log
 *     files at rest --readAhead--> their blocks are in the store --> partners are woken
 *     mount.sync, take, volume.snapshot with these changes, done --> partners are woken, `.snapshots` shows it
 *
 * Everything that touches the volume's change set or takes a snapshot runs in one queue, so that a snapshot never sees
 * half of a taken batch. A step that fails (a full disk, say) leaves the log as it was: the same changes are taken again
 * later. The live tree never waits for any of this.
 *
 * What a snapshot takes from the log it need not record first: the log keeps it until the snapshot is durable, as it keeps
 * what is being recorded, and has it anew for the next daemon if this one dies. Only a few changes wait there for a
 * snapshot that may take long, so that the log has room; more are recorded, and so are those of a snapshot that fails.
 *
 * States: unmounted; mounted; lost, when kith-fuse died under us: mount-keeper.ts mounts again. A mark in the volume's
 * folder says that it is to be mounted, from `kith mount` to `kith unmount`: a daemon that starts, after a crash or the
 * machine's own start, mounts what has the mark. A mount that somebody took off otherwise (umount, a signal to kith-fuse)
 * stays off while this daemon runs; status says so.
 *
 * Programs that opened files, or entered the directory, before it was mounted over work past the mount, unseen. While
 * there are such, every snapshot looks at everything, and one is due as if something had changed.
 */
import type { Clock, Timer } from '../base/clock.js'
import { asKithError, KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { openRoot, reopenDirectory, statFd } from '../base/posix.js'
import type { BlockReader } from '../blocks/block-store.js'
import type { Change } from '../format/changes.js'
import { type Engine, engines } from '../mount/engine.js'
import type { Holder } from '../mount/holders.js'
import { clearAway, mountState } from '../mount/mount.js'
import type {
  MarkChange,
  ProtectedVolume as StoredVolume,
  SnapshotInfo,
  SnapshotOptions,
  SnapshotResult,
} from '../store/types.js'
import type { EngineName, LiveMount, Stopped } from '../mount/types.js'
import { timesTell } from '../store/entries.js'
import type { TreeReader } from '../store/tree-reader.js'
import { IntakePlan, quietMs } from './intake-plan.js'
import { MountKeeper } from './mount-keeper.js'
import { MountMark } from './mount-mark.js'
import { RewriteWatch } from './rewrite-watch.js'
import { isDue, type Schedule } from './schedule.js'

/** After a failed intake the next try waits so long. */
const retryMs = 5000
/** One that failed by itself or by command is tried again. */
const retrySnapshotMs = 60_000
/** How often those who work past the mount are looked for again, and of how many status tells. */
const outsidersMs = 30_000
const toldOutsiders = 3
/** So long later it is seen whether there is room to read ahead. */
const slowMs = 10_000
/** A burst of changes is taken together. */
const gatherMs = 200
/** Records that stay in the log while a snapshot is taken, a sixty-fourth of it. */
const toldAtOnce = 1024

export interface ProtectedVolumeOptions {
  home: string
  clock: Clock
  log: Log
  /** where blocks come from that are not here: partners */
  remote: BlockReader
  /** a new snapshot was committed */
  onSnapshot(volume: ProtectedVolume): void
  /** what is said of snapshots changed, or some went: there is a new head */
  onHead(): void
  /** new blocks were committed that no snapshot names yet */
  onBlocks(): void
  /** whether there is little room for what partners do not hold yet: nothing is read ahead */
  isSlow(): boolean
}

export class ProtectedVolume {
  readonly stored: StoredVolume
  readonly id: string
  #options: ProtectedVolumeOptions
  #mount: LiveMount | undefined
  /** by which its changes are known, while it is mounted or to be */
  #engineName: EngineName = 'fuse'
  readonly #keeper: MountKeeper
  readonly #mark: MountMark
  readonly #watch: RewriteWatch
  /** from mounting until it is unmounted by command */
  #wanted = false
  /** taken off by another than kith */
  #takenOff = false
  /** mounted again by itself, and nobody has been told yet */
  #healed = false
  #queue: Promise<unknown> = Promise.resolve()
  #intake: Timer | undefined
  readonly #plan = new IntakePlan()
  /** the next reading ahead, or the one under way */
  #ahead: Timer | 'running' | undefined
  /** why the last intake, the last snapshot failed */
  #problems: { intake?: string; snapshot?: string } = {}
  #failedAt: number | undefined
  /** monotonic: when it was mounted, and when a snapshot was taken since */
  #mountedAt = 0
  #takenAt: number | undefined
  /** the newest change that the log told, likewise */
  #quietSince = 0
  /** writes through a mapping change a file's times */
  #timesTell = true
  /** those who may change files past the mount, and when they were looked for (monotonic) */
  #outsiders: Holder[] = []
  #lookedAt = 0
  /** snapshots asked for and not yet done: while there are any, the schedule asks for no more */
  #taking = 0
  /** ends a running snapshot when the mount goes */
  #leaving = new AbortController()
  #reader: TreeReader | undefined

  constructor(stored: StoredVolume, options: ProtectedVolumeOptions) {
    this.stored = stored
    this.id = stored.id.toString('hex')
    this.#options = options
    const { home, clock, log } = options
    this.#mark = new MountMark(home, stored.id)
    this.#watch = new RewriteWatch(stored, {
      clock,
      log: log.child({ volume: this.id }),
      mark: (...to) => this.mark(...to),
    })
    this.#keeper = new MountKeeper({
      dir: () => this.dir,
      clock,
      log: log.child({ volume: this.id }),
      again: () => this.#again(),
      // Fails where one is there that lives.
      clear: async () => void (await clearAway(this.dir).catch(() => false)),
    })
  }

  get dir(): string {
    return this.stored.dir
  }

  get state(): 'mounted' | 'lost' | 'unmounted' {
    if (this.#mount) return 'mounted'
    return this.#keeper.busy ? 'lost' : 'unmounted'
  }

  /** Whether it is to be mounted, whatever its state is now. */
  get isWanted(): boolean {
    return this.#wanted || this.#mark.get() !== undefined
  }

  /**
   * Whether anything changed since the last snapshot, as far as is known. A file that is only held open has not: it is
   * looked at every 30 s (read-ahead.ts), where its times tell.
   */
  get changed(): boolean {
    const { inodes, open, everything } = this.stored.pending()
    return everything || inodes > 0 || (open > 0 && !this.#timesTell)
  }

  /** Reads the snapshots, with blocks from here and from partners. */
  get reader(): TreeReader {
    return (this.#reader ??= this.stored.reader(this.stored.adopting(this.#options.remote)))
  }

  get problems(): string[] {
    const problems = [
      ...new Set(Object.values(this.#problems)),
      ...this.#keeper.problems,
      ...(this.#mount?.problems ?? []),
      ...this.#watch.problems,
    ]
    if (this.#takenOff) {
      problems.push(
        `${this.dir} was unmounted by another than kith: what changes there is not seen; mount it: kith mount ${this.dir}`,
      )
    }
    for (const { pid, name, path } of this.#outsiders.slice(0, toldOutsiders)) {
      problems.push(
        `${name} (process ${pid}) has ${path} open since before ${this.dir} was mounted: what it changes is found by ` +
          'snapshots only; let it open or enter it again',
      )
    }
    return problems
  }

  /** A descriptor of the live directory, beneath the mount if there is one; the caller closes it. */
  openLive(): number {
    return this.#mount ? reopenDirectory(this.#mount.rootFd) : openRoot(this.dir)
  }

  /** Programs that opened something in the directory, or entered it, before it was mounted, and so work past the mount. */
  get outsiders(): readonly Holder[] {
    return this.#outsiders
  }

  /** Mounts. A new log says that changes may have been missed, and so everything is looked at once. */
  async mount(engine: EngineName): Promise<void> {
    await this.#keeper.cancel()
    this.#keeper.forget()
    if (this.#mount) return // the try that was at work has done it
    this.#engineName = engine
    const living = await this.#engine.reattach(this.#mountOptions())
    const mount = living ?? (await this.#engine.start(this.#mountOptions()))
    this.#attach(mount)
    this.#healed = false
    await this.#findOutsiders(mount)
  }

  /** True once after it was mounted again by itself. */
  takeHealed(): boolean {
    const healed = this.#healed
    this.#healed = false
    return healed
  }

  /**
   * At the daemon's start: takes over the mount that an earlier daemon left running, or mounts again what was mounted when
   * that one ended. Resolves when it is mounted, or was tried once.
   */
  async resume(): Promise<void> {
    const { log } = this.#options
    this.#engineName = this.#mark.get()?.engine ?? 'fuse'
    const found = await this.#engine.reattach(this.#mountOptions()).catch((error: unknown) => {
      log.error({ volume: this.id, error: String(error) }, 'taking a mount over failed')
      return undefined
    })
    if (found) return this.#attach(found)
    // A dead mount without a mark was left by a kith that knew no marks.
    const dead = (await mountState(this.dir).catch(() => 'none')) === 'dead'
    if (!this.isWanted && !dead) return
    this.#wanted = true
    this.#keeper.lost()
    await this.#keeper.settled()
  }

  /** Sees whether the mount is still there: one that was taken off while files are open in it tells nobody. */
  check(): void {
    if (!this.#mount || !this.#wanted) return
    if (!this.#engine.isThere(this.dir)) return this.#whenLost(this.#mount)
    this.#note(this.#mount)
    const since = this.#options.clock.monotonic() - this.#lookedAt
    if (this.#outsiders.length > 0 && since >= outsidersMs) void this.#findOutsiders(this.#mount)
  }

  /**
   * Unmounts after the last changes are recorded. Never waits for a program: what is open stays usable until it is closed,
   * and is told.
   */
  async unmount(): Promise<Stopped> {
    const wanted = this.isWanted
    this.#wanted = false
    this.#mark.clear()
    await this.#keeper.cancel()
    const mount = this.#mount ?? (await this.#engine.reattach(this.#mountOptions()).catch(unlessGone))
    if (!mount) {
      const cleared = await clearAway(this.dir).catch(unlessGone)
      if (!wanted && !cleared) this.#mounted()
      this.#takenOff = false
      return { stillOpen: [], holders: [] }
    }
    this.#leaving.abort()
    return this.#exclusive(async () => {
      await this.#record(mount).catch((error: unknown) => this.#failed('intake', error))
      this.#release()
      return mount.stop()
    })
  }

  /** Lets go of the mount, which stays and is served by kith-fuse. */
  async detach(): Promise<void> {
    await this.#keeper.cancel()
    const mount = this.#mount
    this.#leaving.abort()
    this.#release()
    await this.#exclusive(async () => mount?.detach())
  }

  /** Whether the schedule asks for a snapshot, or one that failed is to be tried again. */
  isDue(rules: Schedule, everyMs: number): boolean {
    if (!this.#mount || this.#taking > 0) return false
    const { clock } = this.#options
    const monotonic = clock.monotonic()
    const changed = this.changed || this.#outsiders.length > 0
    if (changed && this.#failedAt !== undefined && monotonic >= this.#failedAt + retrySnapshotMs) return true
    return isDue(rules, everyMs, {
      changed,
      now: clock.now(),
      lastSnapshot: this.stored.snapshots().at(-1)?.time,
      monotonic,
      mounted: this.#mountedAt,
      taken: this.#takenAt,
      quietSince: this.#quietSince,
    })
  }

  /** Takes a snapshot now. */
  async snapshot({ signal, progress, ...marks }: SnapshotOptions = {}): Promise<SnapshotResult> {
    const mount = this.#mounted()
    const ends = signal ? AbortSignal.any([signal, this.#leaving.signal]) : this.#leaving.signal
    this.#taking++
    const info = await this.#exclusive(async () => {
      await unlessAborted(mount.sync(), ends)
      const told = await this.#tellable(mount)
      if (this.#outsiders.length > 0) {
        // Those that are gone by now may have changed something just before.
        await this.#findOutsiders(mount)
        await this.stored.recordEverything()
      }
      const run = { signal: ends, ...marks, ...(progress && { progress }) }
      return this.#snapshotWith(mount, told, run).finally(() => void this.#watch.look())
    })
      .catch((error: unknown) => {
        this.#failed('snapshot', error)
        throw error
      })
      .finally(() => this.#taking--)
    this.#problems = {}
    this.#failedAt = undefined
    this.#takenAt = this.#options.clock.monotonic()
    // While kith-fuse is told, the others are, too.
    const shown = this.#mount === mount ? mount.snapshotsChanged() : undefined
    this.#options.onSnapshot(this)
    await shown
    return info
  }

  /** Pins, unpins, tags. */
  async mark(names: readonly string[], change: MarkChange): Promise<SnapshotInfo[]> {
    const marked = await this.stored.mark(names, change)
    this.#options.onHead()
    return marked
  }

  /** Takes snapshots off the list, here and in `.snapshots`. */
  async forget(names: readonly string[]): Promise<SnapshotInfo[]> {
    const gone = await this.stored.forget(names)
    this.#options.onHead()
    await this.#mount?.snapshotsChanged()
    return gone
  }

  /** The plain directory, open; undefined while it is not mounted. */
  get liveRoot(): number | undefined {
    return this.#mount?.rootFd
  }

  get engine(): EngineName {
    return this.#engineName
  }

  get #engine(): Engine {
    return engines[this.#engineName]
  }

  #mountOptions() {
    const { home, clock, log } = this.#options
    return { dir: this.dir, home, volumeId: this.stored.id, clock, log }
  }

  #mounted(): LiveMount {
    if (this.#mount) return this.#mount
    const why = this.#keeper.busy ? 'is not served just now (kith-fuse died)' : 'is not mounted'
    throw new KithError('notFound', `${this.dir} ${why}; mount it by: kith mount ${this.dir}`)
  }

  /** Joins a kith-fuse to which only the connection broke, or mounts anew. */
  async #again(): Promise<void> {
    const { clock, log } = this.#options
    const begun = clock.monotonic()
    const living = await this.#engine.reattach(this.#mountOptions())
    const mount = living ?? (await this.#engine.start(this.#mountOptions(), this.#mark.get()?.ino))
    this.#attach(mount)
    this.#healed = living === undefined
    const took = Math.round(clock.monotonic() - begun)
    log.warn({ volume: this.id, ms: took }, living ? 'joined kith-fuse again' : 'mounted again')
  }

  #attach(mount: LiveMount): void {
    const { clock } = this.#options
    this.#mount = mount
    this.#wanted = true
    this.#takenOff = false
    this.#keeper.mounted()
    this.#note(mount)
    this.#mountedAt = clock.monotonic()
    this.#quietSince = this.#mountedAt
    this.#timesTell = timesTell(mount.rootFd)
    this.#takenAt = undefined
    this.#leaving = new AbortController()
    mount.serve({
      list: () => this.stored.snapshots(),
      reader: () => this.reader,
    })
    mount.on('wake', () => this.#schedule(gatherMs))
    mount.on('lost', () => this.#whenLost(mount))
    // This home's lock says that there is no other daemon: it is joined again.
    mount.on('replaced', () => this.#whenLost(mount))
    void this.#findOutsiders(mount)
    this.#schedule(0)
    this.#plan.again(this.stored.changedFiles(), clock.monotonic())
    this.#plan.watch(this.stored.openFiles(), clock.monotonic())
    this.#scheduleAhead()
  }

  async #findOutsiders(mount: LiveMount): Promise<void> {
    this.#lookedAt = this.#options.clock.monotonic()
    const found = await this.#engine.outsiders(mount).catch(() => [])
    if (this.#mount === mount) this.#outsiders = found
  }

  /**
   * The bridge is gone. A kith-fuse that died leaves a dead mount; one to which only the connection broke, a living one; one
   * that ended in order, none.
   */
  #whenLost(mount: LiveMount): void {
    if (this.#mount !== mount) return
    this.#letGo(mount)
    if (!this.#wanted) return // it is being unmounted
    const there = this.#engine.isThere(this.dir)
    this.#options.log.error(
      { volume: this.id },
      there ? 'the connection to kith-fuse is gone' : 'unmounted by another than this daemon',
    )
    if (there) this.#keeper.lost()
    else this.#takenOff = true
  }

  /** A snapshot that is being taken reads on through the directory's own descriptor. */
  #letGo(mount: LiveMount): void {
    this.#release()
    void this.#exclusive(async () => mount.detach())
  }

  /** Sets the mark, if it is not there. A full disk must not keep anybody from mounting: check() tries again. */
  #note(mount: LiveMount): void {
    try {
      this.#mark.set({ ino: statFd(mount.rootFd).ino, engine: this.#engineName })
    } catch (error) {
      this.#options.log.warn(
        { volume: this.id, code: asKithError(error).code },
        'cannot note that it is mounted',
      )
    }
  }

  #release(): void {
    this.#mount = undefined
    this.#outsiders = []
    this.#intake?.cancel()
    this.#intake = undefined
    if (this.#ahead !== 'running') this.#ahead?.cancel()
    this.#ahead = undefined
    this.#plan.clear()
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
  async #record(mount: LiveMount): Promise<void> {
    await this.#keep(mount, await mount.take())
  }

  async #keep(
    mount: LiveMount,
    { changes, lost }: { changes: readonly Change[]; lost: boolean },
  ): Promise<void> {
    if (lost) await this.stored.recordEverything()
    if (changes.length > 0) await this.stored.recordChanges(changes)
    await this.#forget(mount, changes)
  }

  /** What is left in the log for a snapshot; all else that changed is recorded. In the queue only. */
  async #tellable(mount: LiveMount): Promise<readonly Change[]> {
    const taken = await mount.take()
    if (!taken.lost && taken.changes.length <= toldAtOnce) return taken.changes
    await this.#keep(mount, taken)
    return []
  }

  /** A snapshot with changes that are still in the log: when this ends they are in it, or recorded. In the queue only. */
  async #snapshotWith(
    mount: LiveMount,
    told: readonly Change[],
    run: SnapshotOptions,
  ): Promise<SnapshotResult> {
    const result = await this.stored.snapshot(mount.rootFd, run, told).catch(async (error: unknown) => {
      const recording = this.#keep(mount, { changes: told, lost: false })
      await recording.catch((failure: unknown) => this.#failed('intake', failure))
      throw error
    })
    await this.#forget(mount, told)
    return result
  }

  /** These changes are durable in the store: the log need not have them. */
  async #forget(mount: LiveMount, changes: readonly Change[]): Promise<void> {
    await mount.done()
    const now = this.#options.clock.monotonic()
    if (changes.length > 0) this.#quietSince = now
    this.#plan.note(changes, now)
    this.#scheduleAhead()
  }

  /** Not in the queue: changes are recorded meanwhile. The store has it end early when a snapshot is asked for. */
  #scheduleAhead(atLeastMs = 0): void {
    const next = this.#plan.next()
    if (next === undefined || this.#ahead === 'running' || !this.#mount) return
    this.#ahead?.cancel()
    const mount = this.#mount
    const { clock } = this.#options
    const waitMs = Math.max(atLeastMs, next - clock.monotonic())
    // While the file has to be quiet. Who is only looked at every so often may need no reading at all.
    if (waitMs <= quietMs) this.stored.prepare()
    this.#ahead = clock.after(waitMs, () => {
      this.#ahead = 'running'
      const leaving = this.#leaving
      void this.#readAhead(mount).then((pauseMs) => {
        if (leaving.signal.aborted || this.#mount !== mount) return
        this.#ahead = undefined
        this.#scheduleAhead(pauseMs)
      })
    })
  }

  /** Gives how long to wait at least before the next. */
  async #readAhead(mount: LiveMount): Promise<number> {
    const { clock } = this.#options
    if (this.#options.isSlow()) return slowMs
    const due = this.#plan.take(clock.monotonic())
    try {
      const { read, left } = await this.stored.readAhead(mount.rootFd, due, this.#leaving.signal)
      void this.#watch.look()
      this.#plan.again(left, clock.monotonic())
      delete this.#problems.intake
      if (read > 0) this.#options.onBlocks()
      return gatherMs
    } catch (error) {
      this.#failed('intake', error)
      this.#plan.again(due, clock.monotonic())
      return retryMs
    }
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

/** A directory that is gone has no mount over it. */
function unlessGone(error: unknown): undefined {
  if (asKithError(error).code !== 'notFound') throw error
  return undefined
}

/** What the step gives; throws `cancelled` at once when the signal is given, whatever becomes of the step. */
function unlessAborted<T>(step: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(new KithError('cancelled', 'cancelled'))
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
    step.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
