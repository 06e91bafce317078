/** A worker thread of the sealing pool: runs the jobs it is sent. */
import { parentPort } from 'node:worker_threads'
import { assert } from '../base/errors.js'
import { SealJobs } from './seal-jobs.js'
import type { ToWorker } from './seal-messages.js'

assert(parentPort, 'this file runs in a worker thread')
const port = parentPort
const jobs = new SealJobs((reply, transfer) => port.postMessage(reply, transfer))
port.on('message', (message: ToWorker) => jobs.receive(message))
