/** `restore` and `restorePlan`: copies a snapshot, or a path in it, to another place, or tells what that would do. */
import { KithError } from '../base/errors.js'
import { planRestore } from '../restore/plan.js'
import {
  restoreTree,
  type RestoreOptions,
  type RestoreProgress,
  type RestoreResult,
} from '../restore/restore.js'
import type { DifferenceMark } from '../store/tree-diff.js'
import type { Item, Params, Result } from './api.js'
import type { Job } from './control-server.js'
import { deletable } from './deletable.js'
import { findPart, liveStateOf, placeOf, Sender, stateOf } from './read-back.js'
import type { Services } from './services.js'

export async function restore(
  services: Services,
  params: Params<'restore'>,
  job: Job,
): Promise<Result<'restore'>> {
  const { name, reader, entry, options, release } = await wanted(services, params)
  try {
    const result = await restoreTree(reader, entry, params.to, {
      ...options,
      signal: job.signal,
      progress: (progress) => job.progress(noteOf('restore', progress)),
    })
    return resultOf(name, result)
  } finally {
    release()
  }
}

/** What it would do. */
export async function restorePlan(
  services: Services,
  params: Params<'restorePlan'>,
  job: Job<Item<'restorePlan'>>,
): Promise<Result<'restorePlan'>> {
  const { name, reader, entry, options, release } = await wanted(services, params)
  const sender = new Sender(job)
  const counts = { made: 0, written: 0, updated: 0, replaced: 0, removed: 0, again: 0, blocked: 0 }
  const sizes = { bytes: 0, bytesRemoved: 0 }
  try {
    const planned = planRestore(reader, entry, params.to, { ...options, signal: job.signal })
    for await (const { mark, path, saved, live, blocked } of planned) {
      counts[countOf(mark)]++
      if (blocked) counts.blocked++
      else if (saved?.type === 'file' && mark !== 'U') sizes.bytes += saved.size
      if (mark === '-' && live?.type === 'file') sizes.bytesRemoved += live.stat.size
      if (mark === undefined) continue
      await sender.add({
        change: mark,
        ...placeOf(path),
        before: live ? liveStateOf(live) : null,
        after: saved ? stateOf(saved) : null,
        ...(blocked && { blocked: true as const }),
      })
    }
  } finally {
    release()
  }
  await sender.flush()
  return { snapshot: name, to: params.to, ...counts, ...sizes }
}

function countOf(mark: DifferenceMark | undefined) {
  switch (mark) {
    case '+':
      return 'made'
    case '-':
      return 'removed'
    case 'U':
      return 'updated'
    case 'T':
      return 'replaced'
    case undefined:
      return 'again'
    default:
      return 'written'
  }
}

async function wanted(services: Services, params: Params<'restore'>) {
  const volume = await services.volumes.find(params.dir)
  refuseSnapshotsFolder(services, params.to)
  await services.browses.refuse(params.to)
  const { reader } = volume
  const { name, names, entry } = await findPart(reader, params.snapshot, params.path)
  const release = volume.stored.hold((await reader.snapshot(name)).node)
  try {
    const options: RestoreOptions = {
      overwrite: params.overwrite,
      filter: { include: params.include ?? [], exclude: params.exclude ?? [] },
      ...(params.delete && { delete: await deletable(services, volume, params.to, name, names) }),
    }
    return { name, reader, entry, options, release }
  } catch (error) {
    release()
    throw error
  }
}

export function noteOf(stage: string, { bytes, totalBytes, files, totalFiles }: RestoreProgress) {
  return totalBytes > 0
    ? { stage, done: bytes, total: totalBytes, unit: 'bytes' as const }
    : { stage, done: files, total: totalFiles, unit: 'files' as const }
}

export function resultOf(
  snapshot: string,
  { path, files, bytes, skipped, removed, stayed, notes }: RestoreResult,
): Result<'restore'> {
  return { snapshot, to: path, files, bytes, skipped, removed, stayed, notes }
}

/** Writing below `.snapshots` would have this process wait for itself, which answers there. */
function refuseSnapshotsFolder(services: Services, to: string): void {
  for (const { dir } of services.volumes.list()) {
    if (to === `${dir}/.snapshots` || to.startsWith(`${dir}/.snapshots/`)) {
      throw new KithError('denied', `${dir}/.snapshots cannot be written to; give --to another place`)
    }
  }
}
