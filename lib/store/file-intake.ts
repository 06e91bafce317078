/**
 * The files of a snapshot on their way through the worker threads: small ones in batches, since a message costs as much
 * as a small file; retries for files that change while they are read; the names of one hard-linked file as one.
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
}

const batchItems = 64
const batchBytes = 4 * 1024 * 1024
/** Waits between the tries at a file that changes while it is read, ms. */
const patience = [20, 100, 400]

type Done = (outcome: FileOutcome) => void

interface Pending {
  request: FileRequest
  done: Done
}

/** What all directories of one snapshot, or of one reading ahead, share. */
export class FileIntake {
  /** Files with several names, by inode: read once. */
  readonly links = new Map<bigint, Promise<FileOutcome>>()
  files = 0
  bytes = 0

  constructor(readonly options: FileIntakeOptions) {}

  directory(fd: number): DirectoryFiles {
    return new DirectoryFiles(this, fd)
  }

  count(entry: Entry): void {
    this.files++
    this.bytes += entry.size
    this.options.run.progress?.({ files: this.files, bytes: this.bytes })
  }
}

export class DirectoryFiles {
  private batch: Pending[] = []
  private gathered = 0
  private readonly running = new Set<Promise<void>>()
  private failure: { error: unknown } | undefined

  constructor(
    private readonly shared: FileIntake,
    private readonly fd: number,
  ) {}

  /** Takes a name in; `done` is called before finish() resolves. */
  async add(request: FileRequest, done: Done): Promise<void> {
    const { stat } = request
    if (stat.nlink > 1 && typeOf(stat) === 'file') {
      this.track(this.linked(request).then(done))
      return
    }
    this.batch.push({ request, done })
    this.gathered += stat.size
    if (this.batch.length >= batchItems || this.gathered >= batchBytes) this.flush()
  }

  /** All names added are done. @throws what stopped one of them */
  async finish(): Promise<void> {
    this.flush()
    await this.settled()
    if (this.failure) throw this.failure.error
  }

  /** Nothing runs any more. */
  async settled(): Promise<void> {
    while (this.running.size > 0) await Promise.all(this.running)
  }

  private flush(): void {
    if (this.batch.length === 0) return
    const batch = this.batch
    this.batch = []
    this.gathered = 0
    this.track(this.run(batch, 0))
  }

  private track(work: Promise<void>): void {
    const tracked: Promise<void> = work
      .catch((error: unknown) => {
        this.failure ??= { error }
      })
      .finally(() => this.running.delete(tracked))
    this.running.add(tracked)
  }

  /** Read at once and alone: who waits for it under another name must not wait for a batch to fill. */
  private async linked(request: FileRequest): Promise<FileOutcome> {
    const { ino } = request.stat
    const first = this.shared.links.get(ino)
    if (first) {
      const outcome = await first
      if (outcome.outcome !== 'entry') return this.alone(request)
      return { outcome: 'entry', entry: { ...outcome.entry, name: request.name } }
    }
    const outcome = this.alone(request)
    this.shared.links.set(ino, outcome)
    return outcome
  }

  private async alone(request: FileRequest): Promise<FileOutcome> {
    let result: FileOutcome = { outcome: 'gone' }
    await this.run([{ request, done: (outcome) => (result = outcome) }], 0)
    return result
  }

  private async run(batch: Pending[], attempt: number): Promise<void> {
    const { options } = this.shared
    if (options.run.signal?.aborted) throw new KithError('cancelled', 'the snapshot was cancelled')
    const last = attempt >= patience.length
    const items = await Promise.all(batch.map(({ request }, index) => this.item(request, index, attempt)))
    const bytes = batch.reduce((sum, { request }) => sum + request.stat.size, 0)
    const results = await options.pool.run(
      { dirFd: this.fd, items, bytes },
      options.keys,
      options.access.intake,
    )
    const changed: Pending[] = []
    for (const result of results) {
      const pending = batch[result.index]
      if (!pending) continue
      const outcome = await this.outcome(pending.request, result, items[result.index])
      if (outcome) pending.done(outcome)
      else changed.push(pending)
    }
    if (changed.length === 0) return
    if (options.hasty) {
      for (const { done } of changed) done({ outcome: 'changed' })
      return
    }
    if (last) throw new KithError('internal', 'a file changed beyond its last try')
    await sleep(options.clock, patience[attempt] ?? 0)
    await this.run(changed, attempt + 1)
  }

  private async item(request: FileRequest, index: number, attempt: number): Promise<SealItem> {
    const last = !this.shared.options.hasty && attempt >= patience.length
    const item: SealItem = { index, name: request.name, last }
    if (attempt > 0) return item
    const { dirty, before, stat } = request
    const sparse = stat.blocks * 512 < stat.size
    const known = dirty && !dirty.whole && !dirty.open && dirty.ranges.length > 0
    if (!known || sparse || before?.type !== 'file' || this.shared.options.everything) return item
    const spans = await planSpans(this.shared.options.access.nodes, before, dirty.ranges, stat.size)
    return spans ? { ...item, size: stat.size, spans } : item
  }

  /** Undefined: to be tried again. */
  private async outcome(
    { before }: FileRequest,
    result: SealResult,
    item: SealItem | undefined,
  ): Promise<FileOutcome | undefined> {
    if (result.outcome === 'changed') return undefined
    if (result.outcome !== 'entry') return result
    const { entry, spans } = result
    this.shared.count(entry)
    if (entry.type !== 'file' || spans.length === 0) return { outcome: 'entry', entry }
    const content = await this.content(before, spans, entry.size, item?.spans !== undefined)
    return content && { outcome: 'entry', entry: { ...entry, content } }
  }

  private async content(
    before: Entry | undefined,
    spans: readonly Span[],
    size: number,
    partial: boolean,
  ): Promise<FileContent | undefined> {
    const { access } = this.shared.options
    if (partial && before?.type === 'file') return applySpans(access, before, spans, size)
    const [whole] = spans
    return whole && wholeContent(access, whole)
  }
}
