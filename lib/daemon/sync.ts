/** `sync`: waits until every partner holds the newest snapshots. */
import { sleep } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Params, Result } from './api.js'
import type { Job } from './control-server.js'
import type { Services } from './services.js'
import { partnersOf } from './status.js'

const pollMs = 200

/** Throws noPartners when there is nobody to wait for, or nobody was on line all the time; timeout otherwise. */
export async function sync(services: Services, params: Params<'sync'>, job: Job): Promise<Result<'sync'>> {
  const { partners, clock } = services
  const wanted =
    params.dir === undefined ? services.volumes.list() : [await services.volumes.find(params.dir)]
  const volumes = wanted.filter((volume) => volume.stored.head() !== undefined)
  // What is written and taken from here on is for the next sync.
  const wantedHeads = volumes.flatMap((volume) => volume.stored.head() ?? [])
  const names = volumes.map((volume) => volume.stored.snapshots().at(-1)?.name ?? '')
  if (volumes.length === 0) {
    throw new KithError('notFound', 'there is no snapshot yet; take one by: kith snapshot')
  }
  if (partners.circles().length === 0 && partners.list().length === 0) {
    throw new KithError('noPartners', 'there are no partners; form a circle (kith circle create) or join one')
  }
  const deadline = params.timeoutMs === undefined ? Infinity : clock.monotonic() + params.timeoutMs
  const total = pending(services)
  const sequence = services.store.blocks.lastSequence
  partners.hurry()
  while (!wantedHeads.every((head) => partners.synced(sequence, head))) {
    if (job.signal.aborted) throw new KithError('cancelled', 'cancelled')
    if (clock.monotonic() >= deadline) throw late(services)
    const left = pending(services)
    job.progress({ stage: 'sync', done: Math.max(0, total - left), total, unit: 'bytes' })
    await sleep(clock, Math.min(pollMs, Math.max(1, deadline - clock.monotonic())))
  }
  return {
    volumes: volumes.map((volume, i) => ({
      dir: volume.dir,
      snapshot: names[i] ?? '',
      partners: partnersOf(services, volume),
    })),
  }
}

function pending({ partners }: Services): number {
  return Math.max(0, ...partners.list().map((partner) => partner.bytesPending))
}

function late({ partners }: Services): KithError {
  const list = partners.list()
  if (!list.some((partner) => partner.online)) {
    return new KithError('noPartners', 'no partner is on line; see kith partners, and try again later')
  }
  const behind = list
    .filter((partner) => partner.bytesPending > 0 || !partner.online)
    .map((partner) => partner.name)
  return new KithError(
    'timeout',
    `not yet held by ${behind.join(', ') || 'all partners'}; it goes on in the background`,
  )
}
