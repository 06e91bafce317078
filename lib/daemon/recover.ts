/**
 * `recover`: from nothing but the phrase to the files.
 *
 *     1 phrase -> identity          2 the network, under that identity: who holds heads of it?
 *     3 heads -> volumes, circles   (from here on the home has the identity, and is a member again)
 *     4 newest snapshot -> files    5 what was fetched is indexed, so that a backup goes on without sending it again
 *
 * When nobody holds anything, the home is as it was before. When the files cannot all be restored, the identity and the
 * volumes stay: `recover` again goes on, and skips what is there already under --overwrite if-changed.
 */
import { existsSync, mkdirSync, realpathSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { KithError } from '../base/errors.js'
import { openOwnerState, type Head } from '../format/head.js'
import { deriveIdentity, type Identity } from '../format/keys.js'
import { parsePhrase } from '../format/phrase.js'
import type { Recovered } from '../partners/recovery.js'
import { restoreTree } from '../restore/restore.js'
import { infoOf } from '../store/snapshot-info.js'
import type { Params, Result } from './api.js'
import type { Job } from './control-server.js'
import { defaults } from './config.js'
import type { Daemon } from './daemon.js'
import type { Home } from './home.js'
import type { ProtectedVolume } from './protected-volume.js'
import { noteOf, resultOf } from './restore-job.js'
import type { Services } from './services.js'

type Restored = Result<'recover'>['volumes'][number]

export async function recover(
  daemon: Daemon,
  params: Params<'recover'>,
  job: Job,
): Promise<Result<'recover'>> {
  const identity = deriveIdentity(parsePhrase(params.phrase))
  job.progress({ stage: 'looking for partners', done: 0, total: 0, unit: 'partners' })
  const { heads, faults, placement } = await find(daemon, identity, job)
  const { services } = daemon
  // What was backed up goes on as it was.
  if (placement !== undefined && services.config.settings.placement === defaults.placement)
    services.config.set({ placement })
  await services.partners.placementSet()
  const volumes: Restored[] = []
  const dirs = targets(services, heads, params.to)
  for (const [i, { head, bytes }] of heads.entries()) {
    const volume = await adopt(services, head, bytes, dirs[i] ?? params.to)
    const restored = await restoreNewest(volume, params, job)
    if (restored) volumes.push(restored)
  }
  const wrong = services.partners
    .list()
    .flatMap(({ name, trouble }) => trouble.map((line) => `${name}: ${line}`))
  return { id: services.id, volumes, faults: [...new Set([...faults, ...wrong])] }
}

/** Asks the network for heads; the home takes the identity on when there are any. */
async function find(
  daemon: Daemon,
  identity: Identity,
  job: Job,
): Promise<Recovered & { placement?: string }> {
  const { running } = daemon
  if (running?.identity.id.equals(identity.id)) return running.partners.recover(job.signal)
  const before = leftovers(daemon.home)
  return daemon.become(identity, {
    prove: (services) => services.partners.recover(job.signal),
    // The folders were made for an identity that nobody knows; what was there before is not ours to remove.
    failed: () =>
      before.length === 0 && leftovers(daemon.home).forEach((dir) => rmSync(dir, { recursive: true })),
  })
}

function leftovers(home: Home): string[] {
  return ['store', 'vault', 'partners'].map((name) => join(home.dir, name)).filter((dir) => existsSync(dir))
}

/** One volume goes to the target itself; several go below it, each under its directory's name. */
function targets({ identity }: Services, heads: Recovered['heads'], to: string): string[] {
  if (heads.length === 1) return [to]
  const used = new Set<string>()
  return heads.map(({ head }) => {
    const { label } = openOwnerState(identity.kek, head.owner, head.volumeId, head.sealedState)
    const name = basename(label) || head.volumeId.toString('hex')
    const free = used.has(name) ? `${name}-${head.volumeId.toString('hex')}` : name
    used.add(free)
    return join(to, free)
  })
}

/** The volume of the head, in the store: known already, or taken over from the partners. */
async function adopt(services: Services, head: Head, bytes: Buffer, to: string): Promise<ProtectedVolume> {
  const { volumes, store, partners, identity } = services
  const known = volumes.list().find(({ stored }) => stored.id.equals(head.volumeId))
  if (known && known.state !== 'unmounted')
    throw new KithError('busy', `${known.dir} is mounted; unmount it first`)
  const { circles } = openOwnerState(identity.kek, head.owner, head.volumeId, head.sealedState)
  await partners.restoreCircles(circles)
  mkdirSync(to, { recursive: true })
  const dir = realpathSync(to)
  if (known) {
    if (known.dir !== dir) await known.stored.setDir(dir)
    return known
  }
  return volumes.adopt(await store.importVolume({ head: bytes, dir, blocks: partners.reader }))
}

async function restoreNewest(
  volume: ProtectedVolume,
  { overwrite }: Params<'recover'>,
  job: Job,
): Promise<Restored | undefined> {
  const { reader } = volume
  const record = (await reader.records()).at(-1)
  if (!record) return undefined
  const result = await restoreTree(reader, record.root, volume.dir, {
    overwrite,
    signal: job.signal,
    progress: (progress) => job.progress(noteOf('recover', progress)),
  })
  await volume.stored.rebuildIndex(reader)
  return resultOf(infoOf(record).name, result)
}
