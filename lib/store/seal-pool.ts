/**
 * The worker threads that read, cut and seal, and the main thread's side of their jobs: it answers which chunks are
 * known, and takes blocks in. Threads start with the first job and stay. Each has some small jobs or two large ones at a
 * time, so that it never waits for an answer and the bytes in flight are bounded; a job's answer waits until the blocks
 * before are taken in.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { KithError } from '../base/errors.js'
import type { VolumeKeys } from '../format/keys.js'
import type { Intake } from './intake.js'
import {
  asBuffer,
  decodeResults,
  encodeRequest,
  type FromWorker,
  type SealItem,
  type SealResult,
} from './seal-messages.js'

const jobsPerThread = 12
/** Plaintext bytes of a thread's jobs together, where there are more than two of them. */
const bytesPerThread = 8 * 1024 * 1024
/** What a job holds at most, however large its file. */
const jobBytes = 8 * 1024 * 1024

/** What a thread holds is short-lived and small: without a bound its heap would grow with its garbage. */
const resourceLimits = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 256 }

interface Job {
  id: number
  dirFd: number
  items: SealItem[]
  /** In flight at most. */
  bytes: number
  keys: VolumeKeys
  intake: Intake
  /** Blocks taken in so far, in order. */
  taking: Promise<void>
  failure: unknown
  resolve: (results: SealResult[]) => void
  reject: (error: unknown) => void
}

interface Thread {
  worker: Worker
  jobs: Map<number, Job>
  /** Of its jobs. */
  bytes: number
}

/** Entries of one directory to be read. */
export interface SealWork {
  dirFd: number
  items: SealItem[]
  /** Sizes of the files, together. */
  bytes: number
}

export class SealPool {
  private readonly threads: Thread[] = []
  private readonly queue: Job[] = []
  private nextId = 1
  private closed = false
  private readonly size: number

  constructor(workers = availableParallelism()) {
    this.size = Math.max(1, workers)
  }

  /**
   * Reads entries of a directory, whose descriptor stays open until this resolves; new chunks go to `intake`.
   * @throws KithError noSpace, when a block could not be taken in
   */
  run(work: SealWork, keys: VolumeKeys, intake: Intake): Promise<SealResult[]> {
    return new Promise((resolve, reject) => {
      const taking = Promise.resolve()
      const id = this.nextId++
      const bytes = Math.min(work.bytes, jobBytes)
      this.queue.push({ ...work, id, bytes, keys, intake, taking, failure: undefined, resolve, reject })
      this.next()
    })
  }

  async close(): Promise<void> {
    this.closed = true
    const off = new KithError('cancelled', 'the store was closed')
    for (const job of this.queue.splice(0)) job.reject(off)
    for (const { worker, jobs } of this.threads.splice(0)) {
      for (const job of jobs.values()) job.reject(off)
      jobs.clear()
      await worker.terminate()
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
      const job = this.queue.shift() as Job
      thread.jobs.set(job.id, job)
      thread.bytes += job.bytes
      const { id, dirFd, items, keys } = job
      const request = encodeRequest({ convergence: keys.convergence, gear: keys.gear, items })
      thread.worker.ref()
      thread.worker.postMessage({ kind: 'job', job: id, dirFd, request }, [request.buffer as ArrayBuffer])
    }
  }

  private freest(): Thread | undefined {
    let best: Thread | undefined
    for (const thread of this.threads) if (!best || thread.bytes < best.bytes) best = thread
    if (best?.jobs.size === 0) return best
    if (this.threads.length < this.size) return this.start()
    if (!best || best.jobs.size >= jobsPerThread) return undefined
    return best.jobs.size < 2 || best.bytes < bytesPerThread ? best : undefined
  }

  private start(): Thread {
    const worker = new Worker(new URL('./seal-worker.js', import.meta.url), { resourceLimits })
    const thread: Thread = { worker, jobs: new Map(), bytes: 0 }
    this.threads.push(thread)
    worker.on('message', (message: FromWorker) => this.receive(thread, message))
    worker.on('error', (error) => this.lost(thread, error))
    worker.on('exit', () => this.lost(thread, new Error('it ended')))
    return thread
  }

  private receive(thread: Thread, message: FromWorker): void {
    const job = thread.jobs.get(message.job)
    if (!job) return
    switch (message.kind) {
      case 'blocks': {
        const blocks = asBuffer(message.blocks)
        job.taking = job.taking
          .then(() => takeBlocks(job.intake, blocks))
          .catch((error: unknown) => {
            job.failure ??= error
          })
        break
      }
      case 'ask':
        void job.taking.then(() => {
          const rows = job.failure === undefined ? rowsOf(job.intake, asBuffer(message.ids)) : undefined
          thread.worker.postMessage({ kind: 'answer', job: job.id, rows })
        })
        break
      case 'done':
        void job.taking.then(() => this.finish(thread, job, () => decodeResults(asBuffer(message.results))))
        break
      case 'failed':
        job.failure ??= new KithError('internal', `reading files failed: ${message.why.split('\n')[0]}`)
        this.finish(thread, job, () => [])
        break
    }
  }

  private finish(thread: Thread, job: Job, results: () => SealResult[]): void {
    thread.jobs.delete(job.id)
    thread.bytes -= job.bytes
    // An idle thread does not keep the process alive.
    if (thread.jobs.size === 0) thread.worker.unref()
    try {
      if (job.failure !== undefined) job.reject(job.failure)
      else job.resolve(results())
    } catch (error) {
      job.reject(error)
    }
    this.next()
  }

  private lost(thread: Thread, error: unknown): void {
    const at = this.threads.indexOf(thread)
    if (at >= 0) this.threads.splice(at, 1)
    for (const job of thread.jobs.values()) {
      job.reject(new KithError('internal', `a worker thread failed: ${String(error)}`, { cause: error }))
    }
    thread.jobs.clear()
    if (!this.closed) this.next()
  }
}

async function takeBlocks(intake: Intake, blocks: Buffer): Promise<void> {
  for (let at = 0; at < blocks.length;) {
    const length = blocks.readUInt32LE(at + 64)
    const id = blocks.subarray(at, at + 32)
    const name = blocks.subarray(at + 32, at + 64)
    await intake.addChunk(id, name, blocks.subarray(at + 68, at + 68 + length))
    at += 68 + length
  }
}

function rowsOf(intake: Intake, ids: Buffer): Uint8Array {
  const rows = new Uint8Array((ids.length / 32) * 36)
  const view = asBuffer(rows)
  for (let i = 0; i * 32 < ids.length; i++) {
    const row = intake.known(ids.subarray(i * 32, i * 32 + 32))
    if (!row) continue
    row.name.copy(view, i * 36)
    view.writeUInt32LE(row.sealedBytes, i * 36 + 32)
  }
  return rows
}
