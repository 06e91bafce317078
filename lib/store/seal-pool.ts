/**
 * The worker threads that read, cut and seal, and the main thread's side of their jobs: it answers which chunks are
 * known, and takes blocks in. Threads start with the first job; after much work one stays. Each has some jobs at a time, so that it never
 * waits for an answer; a job's answer waits until the blocks before are taken in. So the bytes in flight are bounded:
 * threads x jobs x 8 MiB (what a job has read, and what it has sealed of the portion before), and 4 MiB of scratch a thread.
 *
 * A few small files that just changed are read and sealed here: that takes less time than waking a thread, asking, answering and
 * waking back. What is none of these after all (a file that grew meanwhile) is not read here, and comes back as changed.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { KithError } from '../base/errors.js'
import { compactHeap } from '../base/heap.js'
import { giveBackMemory } from '../base/posix.js'
import type { VolumeKeys } from '../format/keys.js'
import type { Intake } from './intake.js'
import { SealJobs } from './seal-jobs.js'
import {
  askBytes,
  asBuffer,
  packRowBytes,
  readPacks,
  rowBytes,
  decodeResults,
  encodeRequest,
  type FromWorker,
  type SealItem,
  type SealResult,
  type ToWorker,
} from './seal-messages.js'

const jobsPerThread = 3

/** What a thread holds is short-lived and small: without a bound its heap would grow with its garbage. */
const resourceLimits = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 256 }

/** Sealed bytes, and entries read, after which the allocator and the collector are left with much that nobody uses. */
const muchBytes = 16 * 1024 * 1024
const manyItems = 5000

interface Job {
  id: number
  items: readonly SealItem[]
  keys: VolumeKeys
  intake: Intake
  /** Blocks taken in so far, in order. */
  taking: Promise<void>
  failure: unknown
  resolve: (results: SealResult[]) => void
  reject: (error: unknown) => void
}

/** Who runs jobs. */
interface Runner {
  jobs: Map<number, Job>
  post(message: ToWorker, transfer: ArrayBuffer[]): void
  /** None of this thread. */
  worker?: Worker
}

interface Thread extends Runner {
  worker: Worker
}

export class SealPool {
  private readonly threads: Thread[] = []
  private readonly queue: Job[] = []
  private readonly ownJobs = new SealJobs((message) => this.receive(this.own, message), true)
  /** This thread. */
  private readonly own: Runner = { jobs: new Map(), post: (message) => this.ownJobs.receive(message) }
  private nextId = 1
  private closed = false
  /** Since memory was given back. */
  private sealedBytes = 0
  private itemsRead = 0
  private readonly size: number

  constructor(workers = availableParallelism()) {
    this.size = Math.max(1, workers)
  }

  /**
   * Reads entries, whose directories' descriptors stay open until this resolves; new chunks go to `intake`.
   * @throws KithError noSpace, when a block could not be taken in
   */
  run(items: readonly SealItem[], keys: VolumeKeys, intake: Intake): Promise<SealResult[]> {
    return new Promise((resolve, reject) => {
      this.queue.push(this.job(items, keys, intake, resolve, reject))
      this.next()
    })
  }

  /** The same in this thread, for a few files that were small, and whose bytes the kernel presumably has in memory. */
  runHere(items: readonly SealItem[], keys: VolumeKeys, intake: Intake): Promise<SealResult[]> {
    return new Promise((resolve, reject) => {
      const job = this.job(items, keys, intake, resolve, reject)
      if (this.closed) job.reject(new KithError('cancelled', 'the store was closed'))
      else this.begin(this.own, job)
    })
  }

  private job(
    items: readonly SealItem[],
    keys: VolumeKeys,
    intake: Intake,
    resolve: Job['resolve'],
    reject: Job['reject'],
  ): Job {
    this.itemsRead += items.length
    const id = this.nextId++
    return { id, items, keys, intake, taking: Promise.resolve(), failure: undefined, resolve, reject }
  }

  private begin(runner: Runner, job: Job): void {
    runner.jobs.set(job.id, job)
    const { id, items, keys } = job
    const request = encodeRequest({ convergence: keys.convergence, gear: keys.gear, items })
    runner.post({ kind: 'job', job: id, request }, [request.buffer as ArrayBuffer])
  }

  /** Files will be read soon: a thread starts now, if there is none, so that the first of them does not wait for its start. */
  warm(): void {
    // Like an idle one, it does not keep the process alive.
    if (!this.closed && this.threads.length === 0) this.start().worker.unref()
  }

  /** A thread has less to do than it could: work that is not a whole batch should not wait for the rest. */
  get hungry(): boolean {
    if (this.queue.length > 0) return false
    return this.threads.length < this.size || this.threads.some(({ jobs }) => jobs.size < 2)
  }

  /**
   * Nothing more is to be read for now: what many blocks went through is not kept until the next ones.
   */
  rest(): void {
    if (this.threads.some(({ jobs }) => jobs.size > 0)) return
    if (this.sealedBytes < muchBytes && this.itemsRead < manyItems) return
    this.sealedBytes = 0
    this.itemsRead = 0
    const [, ...others] = this.threads
    for (const thread of others) this.end(thread)
    compactHeap()
    giveBackMemory()
  }

  async close(): Promise<void> {
    this.closed = true
    const off = new KithError('cancelled', 'the store was closed')
    for (const job of this.queue.splice(0)) job.reject(off)
    for (const { worker, jobs } of [this.own, ...this.threads.splice(0)]) {
      for (const job of jobs.values()) job.reject(off)
      jobs.clear()
      await worker?.terminate()
    }
  }

  /** Gives waiting jobs to threads that can take one. */
  private next(): void {
    while (this.queue.length > 0) {
      if (this.closed) {
        this.queue.shift()?.reject(new KithError('cancelled', 'the store was closed'))
        continue
      }
      const thread = this.freest()
      if (!thread) return
      thread.worker.ref()
      this.begin(thread, this.queue.shift() as Job)
    }
  }

  private freest(): Thread | undefined {
    let best: Thread | undefined
    for (const thread of this.threads) if (!best || thread.jobs.size < best.jobs.size) best = thread
    if (best?.jobs.size === 0) return best
    if (this.threads.length < this.size) return this.start()
    return best && best.jobs.size < jobsPerThread ? best : undefined
  }

  private start(): Thread {
    const worker = new Worker(new URL('../store/seal-worker.js', import.meta.url), { resourceLimits })
    const post = (message: ToWorker, transfer: ArrayBuffer[]) => worker.postMessage(message, transfer)
    const thread: Thread = { worker, jobs: new Map(), post }
    this.threads.push(thread)
    worker.on('message', (message: FromWorker) => this.receive(thread, message))
    worker.on('error', (error) => this.lost(thread, error))
    worker.on('exit', () => this.lost(thread, new Error('it ended')))
    return thread
  }

  private receive(runner: Runner, message: FromWorker): void {
    const job = runner.jobs.get(message.job)
    if (!job) return
    switch (message.kind) {
      case 'blocks': {
        const [blocks, packs] = [asBuffer(message.blocks), asBuffer(message.packs)]
        this.sealedBytes += blocks.length
        job.taking = job.taking
          .then(() => take(job.intake, message.count, blocks, packs))
          .catch((error: unknown) => {
            job.failure ??= error
          })
        break
      }
      case 'ask':
        void job.taking.then(() => {
          const rows = job.failure === undefined ? rowsOf(job.intake, asBuffer(message.ids)) : undefined
          const transfer = rows ? [rows.buffer as ArrayBuffer] : []
          runner.post({ kind: 'answer', job: job.id, rows }, transfer)
        })
        break
      case 'done':
        void job.taking.then(() => this.finish(runner, job, () => decodeResults(asBuffer(message.results))))
        break
      case 'failed':
        job.failure ??= new KithError('internal', `reading files failed: ${message.why.split('\n')[0]}`)
        this.finish(runner, job, () => [])
        break
    }
  }

  private finish(runner: Runner, job: Job, results: () => SealResult[]): void {
    runner.jobs.delete(job.id)
    // An idle thread does not keep the process alive.
    if (runner.jobs.size === 0) runner.worker?.unref()
    try {
      if (job.failure !== undefined) job.reject(job.failure)
      else job.resolve(results())
    } catch (error) {
      job.reject(error)
    }
    this.next()
  }

  private end(thread: Thread): void {
    this.remove(thread)
    void thread.worker.terminate().then(giveBackMemory)
  }

  private remove(thread: Thread): void {
    const at = this.threads.indexOf(thread)
    if (at >= 0) this.threads.splice(at, 1)
  }

  private lost(thread: Thread, error: unknown): void {
    this.remove(thread)
    for (const job of thread.jobs.values()) {
      job.reject(new KithError('internal', `a worker thread failed: ${String(error)}`, { cause: error }))
    }
    thread.jobs.clear()
    if (!this.closed) this.next()
  }
}

async function take(intake: Intake, count: number, blocks: Buffer, packs: Buffer): Promise<void> {
  await intake.addChunks(count, blocks)
  for (const { ref, rows } of readPacks(packs)) intake.indexParts(ref, rows)
}

function rowsOf(intake: Intake, ids: Buffer): Uint8Array {
  const count = ids.length / askBytes
  const rows = new Uint8Array(count * (rowBytes + packRowBytes))
  const view = asBuffer(rows)
  for (let i = 0; i < count; i++) {
    const id = ids.subarray(i * askBytes, i * askBytes + 32)
    const bytes = ids.readUInt32LE(i * askBytes + 32)
    const part = bytes > 0 ? intake.knownPart(id, bytes) : undefined
    const row = part?.chunk ?? intake.known(id)
    if (!row) continue
    row.name.copy(view, i * rowBytes)
    view.writeUInt32LE(row.sealedBytes, i * rowBytes + 32)
    if (!part) continue
    const at = count * rowBytes + i * packRowBytes
    view.writeUInt32LE(part.chunk.plainBytes, at)
    part.chunk.key.copy(view, at + 4)
    view.writeUInt32LE(part.offset, at + 36)
  }
  return rows
}
