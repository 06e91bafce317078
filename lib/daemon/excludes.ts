/** `exclude` and `wouldExclude`: what a volume leaves out, by its settings and by .kithignore files. */
import { KithError } from '../base/errors.js'
import { close } from '../base/posix.js'
import type { ExcludeSettings, ProtectedVolume } from '../store/types.js'
import { previewExcluded } from '../store/preview.js'
import type { ExcludeChange, Item, Params, Result } from './api.js'
import type { Job } from './control-server.js'
import { placeOf, Sender } from './read-back.js'
import type { Services } from './services.js'

const maxPatterns = 1000

/** The settings after the change. @throws KithError usage for patterns that cannot be kept, notFound for one to remove */
export function changed(before: ExcludeSettings, change: ExcludeChange): ExcludeSettings {
  const { add = [], remove = [], caches = before.caches, largerThan = before.largerThan } = change
  for (const pattern of remove) {
    if (!before.patterns.includes(pattern))
      throw new KithError('notFound', `${pattern} is no pattern of this directory; see: kith exclude`)
  }
  for (const pattern of add) {
    if (pattern.trim() === '' || /[\n\r\0]/.test(pattern) || pattern.startsWith('#'))
      throw new KithError('usage', `${JSON.stringify(pattern)} is no pattern: one line as in .gitignore`)
  }
  const kept = before.patterns.filter((pattern) => !remove.includes(pattern) && !add.includes(pattern))
  const patterns = [...kept, ...new Set(add)]
  if (patterns.length > maxPatterns)
    throw new KithError('usage', `more than ${maxPatterns} patterns: write them into a .kithignore file`)
  return { patterns, caches, largerThan }
}

/** Changes the volume's settings. Resolves to whether they are others now. */
export async function change(volume: ProtectedVolume, by: ExcludeChange | undefined): Promise<boolean> {
  const before = volume.excludes()
  const settings = by ? changed(before, by) : before
  if (JSON.stringify(before) === JSON.stringify(settings)) return false
  await volume.setExcludes(settings)
  return true
}

export async function exclude(
  services: Services,
  { dir, change: by }: Params<'exclude'>,
): Promise<Result<'exclude'>> {
  const volume = await services.volumes.find(dir)
  const { stored } = volume
  const changes = await change(stored, by)
  const { patterns, caches, largerThan } = stored.excludes()
  const set = { patterns: [...patterns], caches, largerThan }
  return { dir: volume.dir, ...set, excluded: stored.excluded(), changed: changes }
}

export async function wouldExclude(
  services: Services,
  { dir, change: by }: Params<'wouldExclude'>,
  job: Job<Item<'wouldExclude'>>,
): Promise<Result<'wouldExclude'>> {
  const volume = await services.volumes.find(dir)
  const settings = changed(volume.stored.excludes(), by ?? {})
  const sender = new Sender(job)
  const fd = volume.openLive()
  try {
    for await (const { path, type, size, reason } of previewExcluded(fd, settings, job.signal)) {
      await sender.add({ ...placeOf(path), type, size, reason })
    }
  } finally {
    close(fd)
  }
  await sender.flush()
  return { dir: volume.dir, names: sender.count }
}
