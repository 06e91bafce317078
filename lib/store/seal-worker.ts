/** A worker thread of the sealing pool: runs the jobs it is sent, each in a portion of its own. */
import { parentPort } from 'node:worker_threads'
import { assert } from '../base/errors.js'
import { Portion } from './portion.js'
import { SealJob } from './seal-job.js'
import { asBuffer, gearOf, type ToWorker } from './seal-messages.js'

assert(parentPort, 'this file runs in a worker thread')
const port = parentPort
const jobs = new Map<number, SealJob>()

/** Portions that no job uses, by their gear secret (each volume has one): as many as one thread has jobs. */
const idlePortions: { gear: string; portion: Portion }[] = []
const maxIdle = 3

function takePortion(gear: Buffer): { gear: string; portion: Portion } {
  const key = gear.toString('latin1')
  const at = idlePortions.findIndex((idle) => idle.gear === key)
  if (at >= 0) return idlePortions.splice(at, 1)[0] as { gear: string; portion: Portion }
  return { gear: key, portion: new Portion(Buffer.from(gear)) }
}

function giveBack(used: { gear: string; portion: Portion }): void {
  used.portion.reset()
  idlePortions.push(used)
  if (idlePortions.length > maxIdle) idlePortions.shift()
}

port.on('message', (message: ToWorker) => {
  if (message.kind === 'answer') {
    jobs.get(message.job)?.answer(message.rows)
    return
  }
  const request = asBuffer(message.request)
  const taken = takePortion(gearOf(request))
  const job = new SealJob(message.job, request, taken.portion, (reply, transfer) =>
    port.postMessage(reply, transfer),
  )
  jobs.set(message.job, job)
  void job.run().finally(() => {
    jobs.delete(message.job)
    giveBack(taken)
  })
})
