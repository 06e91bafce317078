/**
 * The files of a snapshot on their way through the worker threads: in batches that all directories visited at the same
 * time share, since a message costs as much as many small files; retries for files that change while they are read; the
 * names of one hard-linked file as one.
 *
 * A batch closes when it is large enough; or, once somebody waits for a name in it, when a thread has too little to do.
 * Whenever a batch is done the threads are asked anew, so that nobody waits for ever. A batch of a few small files that just changed is read
 * at once, by the main thread.
 */
import { sleep, type Clock } from '../base/clock.js'
import type { FileStat } from '../base/posix.js'
import type { VolumeKeys } from '../format/keys.js'
import { KithError } from '../base/errors.js'
import type { Entry, FileContent } from '../format/node.js'
import type { Dirty } from './dirty.js'
import { typeOf } from './entries.js'
import type { SealItem, SealResult, Span } from './seal-messages.js'
import type { NodeAccess } from './list-kinds.js'
import type { Rewrites } from './rewrites.js'
import type { SealPool } from './seal-pool.js'
import type { SnapshotOptions } from './types.js'
import { applySpans, planSpans, wholeContent } from './spans.js'

export type FileOutcome =
  | { outcome: 'entry'; entry: Entry }
  | { outcome: 'gone' }
  | { outcome: 'unreadable'; why: string }
  /** It changed while it was read: hasty ones only. */
  | { outcome: 'changed' }

export interface FileIntakeOptions {
  clock: Clock
  pool: SealPool
  access: NodeAccess
  keys: VolumeKeys
  /** Nothing is known of what changed: files are read as a whole. */
  everything: boolean
  /** Told of what was read. */
  rewrites: Rewrites
  /** One try, and no file that was not at rest. */
  hasty?: boolean
  run: SnapshotOptions
}

/** A name to be read. */
export interface FileRequest {
  name: Buffer
  stat: FileStat
  /** What the last snapshot has of this inode. */
  before: Entry | undefined
  dirty: Dirty | undefined
  /** What the last snapshot has by this name, or nearly (rewrites.ts). */
  replaced?: (() => Promise<Entry | undefined>) | undefined
}

const batchItems = 256
const batchBytes = 4 * 1024 * 1024
/** What is read in the main thread: takes it less than a millisecond or two. */
const littleItems = 32
const littleBytes = 128 * 1024
/** Waits between the tries at a file that changes while it is read, ms. */
const patience = [20, 100, 400]

type Done = (outcome: FileOutcome) => void
type Failed = (error: unknown) => void

/** Told by calls, not by promises: of those a file would need a dozen, which cost as much as all else the main thread does for it. */
interface Pending {
  dirFd: number
  request: FileRequest
  /** One of the two is called, once. */
  done: Done
  failed: Failed
}

/** What all directories of one snapshot, or of one reading ahead, share. */
export class FileIntake {
  /** Files with several names, by inode: read once. */
  readonly links = new Map<bigint, Promise<FileOutcome>>()
  files = 0
  bytes = 0
  private batch: Pending[] = []
  private gathered = 0
  /** Somebody waits for the batch. */
  private wanted = false
  private looking = false
  private running = 0

  constructor(readonly options: FileIntakeOptions) {}

  /** Takes in a name, which is read with others; the calls come later. */
  read(dirFd: number, request: FileRequest, done: Done, failed: Failed): void {
    this.batch.push({ dirFd, request, done, failed })
    this.gathered += request.stat.size
    if (this.batch.length >= batchItems || this.gathered >= batchBytes) this.flush()
  }

  /** Somebody waits: the batch goes with the names of this turn, when the threads can take it. */
  wait(): void {
    this.wanted = true
    if (this.looking || this.batch.length === 0) return
    this.looking = true
    setImmediate(() => {
      this.looking = false
      const idle = this.running === 0 || this.options.pool.hungry
      if (this.wanted && idle) this.flush()
    })
  }

  private flush(): void {
    const { batch } = this
    if (batch.length === 0) return
    this.batch = []
    this.gathered = 0
    this.wanted = false
    this.running++
    const open = new Set(batch)
    void this.run(batch, 0, open, this.isLittle(batch))
      .catch((error: unknown) => open.forEach(({ failed }) => failed(error)))
      .finally(() => {
        this.running--
        if (this.wanted) this.wait()
      })
  }

  directory(fd: number): DirectoryFiles {
    return new DirectoryFiles(this, fd)
  }

  count(entry: Entry): void {
    this.files++
    this.bytes += entry.size
    this.options.run.progress?.({ files: this.files, bytes: this.bytes })
  }

  /** Whether reading them takes less time than having a thread do it. What is read ahead nobody waits for. */
  private isLittle(batch: readonly Pending[]): boolean {
    const { everything, hasty } = this.options
    if (everything || hasty || batch.length > littleItems) return false
    if (!batch.every(({ request }) => typeOf(request.stat) === 'file')) return false
    return batch.reduce((sum, { request }) => sum + request.stat.size, 0) <= littleBytes
  }

  /**
   * @param open those that are not told yet
   * @param here in this thread; what cannot be read here goes to the others as if it had not been tried
   */
  private async run(batch: Pending[], attempt: number, open: Set<Pending>, here = false): Promise<void> {
    const { options } = this
    if (options.run.signal?.aborted) throw new KithError('cancelled', 'the snapshot was cancelled')
    const last = attempt >= patience.length
    const items = batch.map((pending, index) => this.item(pending, index, last))
    if (attempt === 0 && !here) await this.addSpans(batch, items)
    const running = here ? 'runHere' : 'run'
    const results = await options.pool[running](items, options.keys, options.access.intake)
    const changed: Pending[] = []
    for (const result of results) {
      const pending = batch[result.index]
      if (!pending) continue
      const found = this.outcome(pending.request, result, items[result.index])
      const outcome = found instanceof Promise ? await found : found
      if (outcome) {
        open.delete(pending)
        pending.done(outcome)
      } else changed.push(pending)
    }
    if (changed.length === 0) return
    if (here) return this.run(changed, attempt, open)
    if (options.hasty) {
      for (const pending of changed) {
        open.delete(pending)
        pending.done({ outcome: 'changed' })
      }
      return
    }
    if (last) throw new KithError('internal', 'a file changed beyond its last try')
    await sleep(options.clock, patience[attempt] ?? 0)
    await this.run(changed, attempt + 1, open)
  }

  private item({ dirFd, request }: Pending, index: number, lastTry: boolean): SealItem {
    const { stat, name } = request
    return { index, dirFd, name, regular: typeOf(stat) === 'file', last: lastTry && !this.options.hasty }
  }

  /** Where only ranges of a file changed, the first try reads only what is around them. */
  private async addSpans(batch: readonly Pending[], items: readonly SealItem[]): Promise<void> {
    const { access, everything } = this.options
    if (everything) return
    for (const [i, { request }] of batch.entries()) {
      const { dirty, before, stat } = request
      const sparse = stat.blocks * 512 < stat.size
      const known = dirty && !dirty.whole && !dirty.open && dirty.ranges.length > 0
      const item = items[i]
      if (!item || !known || sparse || before?.type !== 'file') continue
      const spans = await planSpans(access.nodes, before, dirty.ranges, stat.size)
      if (spans) Object.assign(item, { size: stat.size, spans })
    }
  }

  /** Undefined: to be tried again. */
  private outcome(
    request: FileRequest,
    result: SealResult,
    item: SealItem | undefined,
  ): FileOutcome | undefined | Promise<FileOutcome | undefined> {
    if (result.outcome === 'changed') return undefined
    if (result.outcome !== 'entry') return result
    const { entry, spans } = result
    this.count(entry)
    if (entry.type !== 'file' || spans.length === 0) return this.noted(request, entry)
    return this.content(request.before, spans, entry.size, item?.spans !== undefined).then(
      (content) => content && this.noted(request, { ...entry, content }),
    )
  }

  private noted(
    { before, replaced, stat: { btimeNs } }: FileRequest,
    entry: Entry,
  ): FileOutcome | Promise<FileOutcome> {
    const { rewrites, access } = this.options
    const outcome: FileOutcome = { outcome: 'entry', entry }
    const noting = rewrites.note(access.nodes, { entry, btimeNs, before, replaced })
    return noting ? noting.then(() => outcome) : outcome
  }

  private async content(
    before: Entry | undefined,
    spans: readonly Span[],
    size: number,
    partial: boolean,
  ): Promise<FileContent | undefined> {
    const { access } = this.options
    if (partial && before?.type === 'file') return applySpans(access, before, spans, size)
    const [whole] = spans
    return whole && wholeContent(access, whole)
  }
}

export class DirectoryFiles {
  /** Names that are not done. */
  private open = 0
  private failure: { error: unknown } | undefined
  /** Called when none is open. */
  private readonly waiting: (() => void)[] = []

  constructor(
    private readonly shared: FileIntake,
    private readonly fd: number,
  ) {}

  /** Takes a name in; `done` is called before finish() resolves. */
  add(request: FileRequest, done: Done): void {
    this.open++
    const ended: Done = (outcome) => this.end(() => done(outcome))
    const failed: Failed = (error) =>
      this.end(() => {
        throw error
      })
    const { stat } = request
    if (stat.nlink > 1 && typeOf(stat) === 'file') void this.linked(request).then(ended, failed)
    else this.shared.read(this.fd, request, ended, failed)
  }

  /** All names added are done. @throws what stopped one of them */
  async finish(): Promise<void> {
    await this.settled()
    if (this.failure) throw this.failure.error
  }

  /** Nothing runs any more. */
  async settled(): Promise<void> {
    while (this.open > 0) {
      this.shared.wait()
      await new Promise<void>((resolve) => this.waiting.push(resolve))
    }
  }

  private end(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.failure ??= { error }
    }
    if (--this.open === 0) for (const resolve of this.waiting.splice(0)) resolve()
  }

  private async linked(request: FileRequest): Promise<FileOutcome> {
    const { ino } = request.stat
    const first = this.shared.links.get(ino)
    if (!first) {
      const outcome = this.read(request)
      this.shared.links.set(ino, outcome)
      return outcome
    }
    const outcome = await first
    if (outcome.outcome === 'entry')
      return { outcome: 'entry', entry: { ...outcome.entry, name: request.name } }
    const own = this.read(request)
    this.shared.wait()
    return own
  }

  private read(request: FileRequest): Promise<FileOutcome> {
    return new Promise((done, failed) => this.shared.read(this.fd, request, done, failed))
  }
}
