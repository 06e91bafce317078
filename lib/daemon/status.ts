/** `status`: what is so, from all parts. */
import { statfs } from 'node:fs/promises'
import { decodeHead } from '../format/head.js'
import { mounts, type MountEntry } from '../mount/mount-table.js'
import { mountpointsBelow } from '../mount/surroundings.js'
import type { Result, PartnerStatus, VolumeStatus } from './api.js'
import type { Daemon } from './daemon.js'
import { placementProblems } from './placement.js'
import type { ProtectedVolume } from './protected-volume.js'
import type { Services } from './services.js'
import { isShared } from './volumes.js'

/** Below this the disk counts as full: a snapshot needs room for its index, too. */
const lowSpaceBytes = 16 * 2 ** 20

export async function status(daemon: Daemon, dir: string | undefined): Promise<Result<'status'>> {
  const services = daemon.running
  const { settings, name } = daemon.config
  const facts = { version: daemon.version, pid: process.pid, home: daemon.home.dir, name }
  if (!services) {
    const network = { running: false, bootstrap: settings.bootstrap, circles: [] }
    const vault = { bytesHeld: 0, bytesQuota: settings.vaultQuotaBytes, owners: 0 }
    const wrong = await problems(daemon.home.dir)
    return {
      ...facts,
      id: null,
      network,
      vault,
      space: null,
      placement: null,
      audits: null,
      awayUntil: null,
      volumes: [],
      problems: wrong,
    }
  }
  const shown = dir === undefined ? services.volumes.list() : [await services.volumes.find(dir)]
  const owners = services.vault.owners()
  const table = await mounts()
  const space = await services.space.status()
  const placement = services.partners.placement()
  return {
    ...facts,
    id: services.id,
    network: {
      running: true,
      bootstrap: [...services.bootstrap],
      circles: services.partners.circles().map((circle) => circle.name),
    },
    vault: {
      bytesHeld: owners.reduce((sum, owner) => sum + owner.bytes, 0),
      bytesQuota: settings.vaultQuotaBytes,
      owners: owners.length,
    },
    space,
    placement,
    audits: services.partners.audits(),
    awayUntil: services.partners.awayUntil,
    volumes: shown.map((volume) => volumeStatus(services, volume, table)),
    problems: [
      ...(await problems(daemon.home.dir)),
      ...services.space.problems(space),
      ...placementProblems(placement),
    ],
  }
}

function volumeStatus(
  services: Services,
  volume: ProtectedVolume,
  table: readonly MountEntry[],
): VolumeStatus {
  const partners = services.partners.list()
  return {
    id: volume.id,
    dir: volume.dir,
    mounted: volume.state === 'mounted',
    state: volume.state,
    engine: volume.engine,
    lastSnapshot: volume.stored.snapshots().at(-1) ?? null,
    changed: volume.stored.pending().inodes,
    bytesPending:
      partners.length === 0 ? services.store.blocks.bytes : Math.max(...partners.map((p) => p.bytesPending)),
    partners: partnersOf(services, volume),
    excluded: volume.stored.excluded(),
    sharedWith:
      services.partners.circleSecrets().find(({ secret }) => isShared(volume, secret))?.name ?? null,
    leftOut: mountpointsBelow(table, volume.dir),
    problems: volume.problems,
  }
}

/** What is wrong with the home itself. */
async function problems(home: string): Promise<string[]> {
  const { bavail, bsize } = await statfs(home)
  if (bavail * bsize >= lowSpaceBytes) return []
  const left = Math.floor((bavail * bsize) / 2 ** 20)
  return [
    `only ${left} MiB are left on the disk of ${home}: make room, or backups will stop (files stay safe)`,
  ]
}

/** What each partner holds: in bytes, of all volumes together. */
export function partnersOf(services: Services, volume: ProtectedVolume): PartnerStatus[] {
  const list = services.partners.list()
  return list.map(({ id, name, online, bytesHeld, bytesPending, lastProof, trouble, state }) => ({
    id,
    name,
    online,
    bytesHeld,
    bytesPending,
    recoveryPoint: recoveryPoint(services, volume, id),
    lastProof,
    faults: trouble,
    state,
  }))
}

/** A head is sent after all blocks that it can name. Nothing changed since the newest one: then it is as of now. */
function recoveryPoint(
  { partners, clock }: Services,
  volume: ProtectedVolume,
  partner: string,
): number | null {
  const held = partners.headHeld(partner, volume.stored.id)
  const head = volume.stored.head()
  if (held === 0 || !head) return null
  if (held >= decodeHead(head).sequence && !volume.changed) return clock.now()
  return volume.stored.pointOf(held) ?? null
}
