/** A worker thread of the sealing pool: runs the jobs it is sent. */
import { parentPort } from 'node:worker_threads'
import { assert } from '../base/errors.js'
import { Chunker } from '../format/chunker.js'
import { SealJob } from './seal-job.js'
import { asBuffer, decodeRequest, type ToWorker } from './seal-messages.js'

assert(parentPort, 'this file runs in a worker thread')
const port = parentPort
const jobs = new Map<number, SealJob>()
/** One for each gear secret, as one for each volume. */
const chunkers = new Map<string, Chunker>()

function chunkerOf(gear: Buffer): Chunker {
  const key = gear.toString('latin1')
  const chunker = chunkers.get(key) ?? new Chunker(gear)
  chunkers.set(key, chunker)
  return chunker
}

port.on('message', (message: ToWorker) => {
  if (message.kind === 'answer') {
    jobs.get(message.job)?.answer(message.rows)
    return
  }
  const request = decodeRequest(asBuffer(message.request))
  const job = new SealJob(message, request, chunkerOf(request.gear), (reply, transfer) =>
    port.postMessage(reply, transfer),
  )
  jobs.set(message.job, job)
  void job.run().finally(() => jobs.delete(message.job))
})
