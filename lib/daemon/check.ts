/** `check`: the store, the vault, and what partners say of blocks that are not here. */
import { randomBytes } from '../base/random.js'
import type { CheckOptions, StoreFindings, VolumeFindings } from '../store/check.js'
import type { Params, Result } from './api.js'
import type { Job } from './control-server.js'
import type { Services } from './services.js'

const told = 20
const units = { index: 'blocks', data: 'bytes', snapshots: 'snapshots' } as const
const stages = { index: 'check the index', data: 'read blocks', snapshots: 'check snapshots' } as const

export async function check(services: Services, params: Params<'check'>, job: Job): Promise<Result<'check'>> {
  const wanted = params.readData && selection(params.readData)
  const found = await services.store.check({ ...sources(services), ...watched(job), wanted })
  return { ...resultOf(found), vault: await vaultOf(services, wanted, job) }
}

export async function vaultOf(
  { vault }: Services,
  wanted: ((name: Buffer) => boolean) | undefined,
  job: Job,
): Promise<Result<'check'>['vault']> {
  const { blocks, read, damaged, problems } = await vault.check(wanted, {
    signal: job.signal,
    progress: (done, total) => job.progress({ stage: 'check the vault', done, total, unit: 'blocks' }),
  })
  return { blocks, blocksRead: read, damaged, problems }
}

/** Partners, when there are any on line: nobody waits for one to come. */
export function sources({ partners }: Services): Pick<CheckOptions, 'remote' | 'held' | 'believed'> {
  const believed = (sequence: number, name: Buffer) => partners.keepers.believed(sequence, name)
  if (!partners.list().some(({ online }) => online)) return { believed }
  return { remote: partners.reader, held: (names) => partners.held(names), believed }
}

export function watched(job: Job): Pick<CheckOptions, 'signal' | 'progress'> {
  return {
    signal: job.signal,
    progress: (stage, done, total) => job.progress({ stage: stages[stage], done, total, unit: units[stage] }),
  }
}

/** Names are hashes: any bits of them choose evenly. */
function selection(choice: NonNullable<Params<'check'>['readData']>): (name: Buffer) => boolean {
  if ('part' in choice) return (name) => name.readUInt32BE(0) % choice.of === choice.part - 1
  const salt = randomBytes(4).readUInt32BE()
  return (name) => (name.readUInt32BE(0) ^ salt) >>> 0 < (choice.percent / 100) * 2 ** 32
}

export function resultOf(found: StoreFindings): Omit<Result<'check'>, 'vault'> {
  const wounds = [...found.bad.values()]
  return {
    blocks: found.index.blocks,
    blocksRead: found.read?.blocks ?? 0,
    bytesRead: found.read?.bytes ?? 0,
    damaged: wounds.filter((wound) => wound === 'damaged').length - found.unused,
    missing: wounds.filter((wound) => wound === 'missing').length,
    unused: found.unused,
    volumes: found.volumes.map(volumeOf),
    problems: found.index.problems,
  }
}

function volumeOf(volume: VolumeFindings): Result<'check'>['volumes'][number] {
  const { dir, snapshots, nodes, away, problems } = volume
  return {
    dir,
    snapshots,
    nodes,
    away,
    hurt: some([...new Set([...volume.hurt.values()].map(({ path }) => path))].sort()),
    hurtSnapshots: some(volume.hurtSnapshots),
    problems,
  }
}

function some(all: readonly string[]): { count: number; first: string[] } {
  return { count: all.length, first: all.slice(0, told) }
}
