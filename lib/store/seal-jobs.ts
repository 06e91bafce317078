/** The jobs that one thread is at, each in a portion of its own. */
import { type Portion, PortionKeeper } from './portion.js'
import { SealJob } from './seal-job.js'
import { asBuffer, type FromWorker, gearOf, type ToWorker } from './seal-messages.js'

export class SealJobs {
  private readonly running = new Map<number, SealJob>()
  private readonly portions = new PortionKeeper()

  /** @param smallOnly what readSmall leaves is not read, and comes back as changed: the caller tries it again elsewhere */
  constructor(
    private readonly post: (message: FromWorker, transfer?: ArrayBuffer[]) => void,
    private readonly smallOnly = false,
  ) {}

  receive(message: ToWorker): void {
    if (message.kind === 'answer') {
      this.running.get(message.job)?.answer(message.rows)
      return
    }
    const request = asBuffer(message.request)
    const gear = gearOf(request)
    const portion: Portion = this.portions.take(gear)
    const job = new SealJob(message.job, request, portion, this.post, this.smallOnly)
    this.running.set(message.job, job)
    void job.run().finally(() => {
      this.running.delete(message.job)
      this.portions.giveBack(gear, portion)
    })
  }
}
