/**
 * What `restore --delete` may remove: where it is refused altogether, and the rules by which names stay. What is left out
 * of snapshots is in none, and the copy in the target may be the only one: so the rules of the restored volume hold, as
 * they were (in the snapshot) and as they are (in the target), and those of the volume that the target lies in.
 */
import { realpath } from 'node:fs/promises'
import { dirname, relative } from 'node:path'
import { KithError } from '../base/errors.js'
import { close, errnoCode, openDirectoryAt } from '../base/posix.js'
import type { Entry } from '../format/entry.js'
import { isInside } from '../mount/surroundings.js'
import { type LeftOutOptions, ownRulesOf, type RulesFrom } from '../restore/left-out.js'
import { readOwnRules, RuledDirectory } from '../store/rules.js'
import type { ProtectedVolume } from './protected-volume.js'
import type { Services } from './services.js'

/** @throws KithError usage where nothing may be removed */
export async function deletable(
  services: Services,
  volume: ProtectedVolume,
  to: string,
  snapshot: string,
  names: readonly Buffer[],
): Promise<LeftOutOptions> {
  const target = await existing(to)
  await refuse(services, target, names)
  const rules = [await savedRules(volume, snapshot, names)]
  const around = services.volumes.list().find(({ dir }) => isWithin(target, dir))
  if (around) rules.push(await liveRules(around, target))
  const caches = [volume, ...(around ? [around] : [])].some(({ stored }) => stored.excludes().caches)
  return { rules, caches, reader: volume.reader }
}

async function refuse(services: Services, target: string, names: readonly Buffer[]): Promise<void> {
  const home = await existing(services.home.dir)
  if (target === '/') throw new KithError('usage', '--delete does not go with --to /')
  if (isWithin(home, target) || isWithin(target, home))
    throw new KithError('usage', `--delete could remove kith's own ${home}; choose another target`)
  for (const { dir } of services.volumes.list()) {
    if (isInside(dir, target))
      throw new KithError(
        'usage',
        `--delete could remove ${dir}, which is protected by itself; choose another target`,
      )
    if (dir === target && names.length > 0)
      throw new KithError(
        'usage',
        `--delete would remove all of ${dir} but that one part; give --to the directory of the same name in it`,
      )
  }
}

function isWithin(path: string, directory: string): boolean {
  return path === directory || isInside(path, directory)
}

/** The rules of the snapshot's directories above the restored one. */
async function savedRules(
  { reader, stored }: ProtectedVolume,
  snapshot: string,
  names: readonly Buffer[],
): Promise<RulesFrom> {
  const settings = stored.excludes()
  const last = names.at(-1)
  if (!last) return (own) => RuledDirectory.root(settings, own)
  let at: Entry = await reader.snapshot(snapshot)
  let ruled = RuledDirectory.root(settings, await ownRulesOf(reader, at, false))
  for (const name of names.slice(0, -1)) {
    at = await reader.resolve(at, [name])
    ruled = ruled.child(name, await ownRulesOf(reader, at, settings.caches))
  }
  return (own) => ruled.child(last, own)
}

/** Those of the live directories above the target, in the volume that it lies in. */
async function liveRules(volume: ProtectedVolume, target: string): Promise<RulesFrom> {
  const settings = volume.stored.excludes()
  const names = relative(volume.dir, target)
    .split('/')
    .filter((name) => name !== '')
    .map((name) => Buffer.from(name))
  const last = names.at(-1)
  if (!last) return (own) => RuledDirectory.root(settings, own)
  let fd = volume.openLive()
  try {
    let ruled = RuledDirectory.root(settings, readOwnRules(fd, false))
    for (const name of names.slice(0, -1)) {
      const below = openDirectoryAt(fd, name)
      close(fd)
      fd = below
      ruled = ruled.child(name, readOwnRules(fd, settings.caches))
    }
    return (own) => ruled.child(last, own)
  } catch (error) {
    // A target that is not there yet has nothing to lose.
    if (errnoCode(error) !== 'ENOENT') throw error
    return (own) => RuledDirectory.root(settings, own)
  } finally {
    close(fd)
  }
}

/** Without symbolic links, as far as the path exists. */
export async function existing(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    if (errnoCode(error) !== 'ENOENT' || path === '/') throw error
    const above = dirname(path)
    return `${(await existing(above)).replace(/\/$/, '')}${path.slice(above.replace(/\/$/, '').length)}`
  }
}
