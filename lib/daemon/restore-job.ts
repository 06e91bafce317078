/** `restore`: copies a snapshot, or a path in it, to another place. */
import { KithError } from '../base/errors.js'
import { restoreTree, type RestoreProgress, type RestoreResult } from '../restore/restore.js'
import type { Params, Result } from './api.js'
import type { Job } from './control-server.js'
import { findPart } from './read-back.js'
import type { Services } from './services.js'

export async function restore(
  services: Services,
  params: Params<'restore'>,
  job: Job,
): Promise<Result<'restore'>> {
  const volume = await services.volumes.find(params.dir)
  refuseSnapshotsFolder(services, params.to)
  const { reader } = volume
  const { name, entry } = await findPart(reader, params.snapshot, params.path)
  const release = volume.stored.hold((await reader.snapshot(name)).node)
  try {
    const result = await restoreTree(reader, entry, params.to, {
      overwrite: params.overwrite,
      filter: { include: params.include ?? [], exclude: params.exclude ?? [] },
      signal: job.signal,
      progress: (progress) => job.progress(noteOf('restore', progress)),
    })
    return resultOf(name, result)
  } finally {
    release()
  }
}

export function noteOf(stage: string, { bytes, totalBytes, files, totalFiles }: RestoreProgress) {
  return totalBytes > 0
    ? { stage, done: bytes, total: totalBytes, unit: 'bytes' as const }
    : { stage, done: files, total: totalFiles, unit: 'files' as const }
}

export function resultOf(
  snapshot: string,
  { path, files, bytes, skipped, notes }: RestoreResult,
): Result<'restore'> {
  return { snapshot, to: path, files, bytes, skipped, notes }
}

/** Writing below `.snapshots` would have this process wait for itself, which answers there. */
function refuseSnapshotsFolder(services: Services, to: string): void {
  for (const { dir } of services.volumes.list()) {
    if (to === `${dir}/.snapshots` || to.startsWith(`${dir}/.snapshots/`)) {
      throw new KithError('denied', `${dir}/.snapshots cannot be written to; give --to another place`)
    }
  }
}
