/**
 * What lies around a directory that is to be protected and matters to its owner: other file systems mounted below it,
 * which stay out of the backup; and the same files under another name, by a bind mount. All from the mount table: no path
 * below the directory is looked at.
 */
import { mountType, type MountEntry } from './mount-table.js'

export function isInside(path: string, dir: string): boolean {
  return path.startsWith(dir === '/' ? dir : `${dir}/`) && path !== dir
}

/** Mount points below the directory, sorted; hidden ones count as well. */
export function mountpointsBelow(entries: readonly MountEntry[], dir: string): string[] {
  const below = entries.filter(({ mountpoint }) => isInside(mountpoint, dir))
  return [...new Set(below.map(({ mountpoint }) => mountpoint))].sort()
}

/** Whether one of the two lies in the other, or is it, whatever the names by which they are reached. */
export function sameFiles(entries: readonly MountEntry[], one: string, other: string): boolean {
  const [a, b] = [placeOf(entries, one), placeOf(entries, other)]
  if (a === undefined || b === undefined || a.device !== b.device) return false
  return a.path === b.path || isInside(a.path, b.path) || isInside(b.path, a.path)
}

/** The directory's file system and its path in that, as it is beneath kith's mounts. */
function placeOf(entries: readonly MountEntry[], dir: string): { device: string; path: string } | undefined {
  let over: MountEntry | undefined
  for (const entry of entries) {
    const { mountpoint, type } = entry
    if (type === mountType || (mountpoint !== dir && !isInside(dir, mountpoint))) continue
    if (over === undefined || mountpoint.length >= over.mountpoint.length) over = entry
  }
  if (over === undefined) return undefined
  const rest = over.mountpoint === '/' ? dir : dir.slice(over.mountpoint.length)
  const path = `${over.root === '/' ? '' : over.root}${rest === '/' ? '' : rest}`
  return { device: over.device, path: path === '' ? '/' : path }
}
