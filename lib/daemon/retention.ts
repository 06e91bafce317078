/** `forget`, `policy` and `prune`: what is kept of a volume's snapshots. The rules themselves are store/retention.ts's. */
import { KithError } from '../base/errors.js'
import { hasRules, planRetention, wallClock, type Decision } from '../store/retention.js'
import type { SnapshotInfo } from '../store/types.js'
import type { Params, Result } from './api.js'
import type { Job } from './control-server.js'
import type { ProtectedVolume } from './protected-volume.js'
import type { Services } from './services.js'

/**
 * Names given are forgotten, also when nothing is left. Rules always leave the newest snapshot, and those that are pinned.
 * @throws KithError usage without names and rules, denied for a pinned snapshot
 */
export async function forget(services: Services, params: Params<'forget'>): Promise<Result<'forget'>> {
  const volume = await services.volumes.find(params.dir)
  const names = params.snapshots ?? []
  const rules = params.policy ?? rulesOf(services, volume)
  if (names.length > 0 && params.policy) {
    throw new KithError('usage', 'name snapshots or give rules (--keep-...), not both')
  }
  if (names.length === 0 && (!rules || !hasRules(rules))) {
    throw new KithError(
      'usage',
      `say which: name snapshots, give rules (--keep-...), or set them: kith policy`,
    )
  }
  const decisions =
    names.length > 0
      ? byName(volume, names)
      : planRetention(volume.stored.snapshots(), rules ?? {}, wallClock())
  const gone = decisions.filter(({ keep }) => !keep).map(({ snapshot }) => snapshot.id)
  if (!params.dryRun && gone.length > 0) await volume.forget(gone)
  return {
    dryRun: params.dryRun ?? false,
    snapshots: decisions.map(({ snapshot, keep, reasons }) => ({ ...snapshot, kept: keep, reasons })),
    forgotten: gone.length,
  }
}

export async function policy(services: Services, params: Params<'policy'>): Promise<Result<'policy'>> {
  const volume = await services.volumes.find(params.dir)
  if (params.policy !== undefined) {
    if (params.policy && !hasRules(params.policy)) {
      throw new KithError(
        'usage',
        'these rules would keep nothing but the newest snapshot: give at least one',
      )
    }
    const retention = { ...services.config.settings.retention }
    if (params.policy) retention[volume.id] = params.policy
    else Reflect.deleteProperty(retention, volume.id)
    services.config.set({ retention })
  }
  return { dir: volume.dir, policy: rulesOf(services, volume) ?? null }
}

export async function prune(
  { store, partners }: Services,
  { dryRun = false }: Params<'prune'>,
  { signal, progress }: Job,
): Promise<Result<'prune'>> {
  const result = await store.prune({
    dryRun,
    remote: partners.reader,
    signal,
    progress: (stage, done, total) =>
      progress({ stage: `prune: ${stage}`, done, total, unit: stage === 'compact' ? 'bytes' : 'blocks' }),
  })
  if (result.blocks > 0 && !dryRun) partners.wake()
  return { dryRun, ...result }
}

/** After a snapshot of a volume with rules. Setting them forgets nothing before the next one. */
export async function applyPolicy(services: Services, volume: ProtectedVolume): Promise<void> {
  const rules = rulesOf(services, volume)
  if (!rules || !hasRules(rules)) return
  const decisions = planRetention(volume.stored.snapshots(), rules, wallClock())
  const gone = decisions.filter(({ keep }) => !keep)
  if (gone.length === 0) return
  await volume.forget(gone.map(({ snapshot }) => snapshot.id))
  services.log.info({ volume: volume.id, forgotten: gone.length }, 'snapshots forgotten by the rules')
}

/** The volume's own rules, when it has some. */
export function rulesOf({ config }: Services, volume: ProtectedVolume) {
  return config.settings.retention[volume.id]
}

function byName(volume: ProtectedVolume, names: readonly string[]): Decision<SnapshotInfo>[] {
  const named = new Set(volume.stored.named(names).map(({ id }) => id))
  return volume.stored.snapshots().map((snapshot) => {
    if (!named.has(snapshot.id)) return { snapshot, keep: true, reasons: ['not named'] }
    if (snapshot.pinned) {
      throw new KithError('denied', `${snapshot.name} is pinned: unpin it first, by kith unpin`)
    }
    return { snapshot, keep: false, reasons: [] }
  })
}
