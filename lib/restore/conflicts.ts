/** Finds out before anything is written whether a restore that must not overwrite would have to. */
import { KithError } from '../base/errors.js'
import { statIfAny } from '../base/posix.js'
import type { DirectoryEntry } from '../format/entry.js'
import { checkCancelled } from './content.js'
import type { OpenDirectories } from './open-directories.js'
import { pathOf, type DirectoryHandle } from './open-directories.js'
import { pathText } from '../base/path-text.js'
import { hasType } from './place.js'
import type { TreeSource } from './types.js'

const pageEntries = 1000

/**
 * Walks the directories that are both in the snapshot and in the target, in the snapshot's order. Throws KithError
 * `exists` with the first name that is in both and is not a directory in both.
 */
export async function refuseConflicts(
  source: TreeSource,
  root: DirectoryEntry,
  directories: OpenDirectories,
  target: string,
  signal?: AbortSignal,
): Promise<void> {
  const stack: { entry: DirectoryEntry; handle: DirectoryHandle }[] = [
    { entry: root, handle: directories.root },
  ]
  for (let next = stack.pop(); next; next = stack.pop()) {
    const { entry, handle } = next
    let after: Buffer | undefined
    for (;;) {
      checkCancelled(signal)
      const page = await source.list(entry, after, pageEntries)
      directories.useSync(handle, (fd) => {
        for (const child of page) {
          const stat = statIfAny(fd, child.name)
          if (!stat) continue
          if (child.type !== 'directory' || !hasType(stat, 'directory'))
            throw alreadyThere(`${target}/${pathText([...pathOf(handle), child.name])}`)
          stack.push({ entry: child, handle: directories.child(handle, fd, child.name) })
        }
      })
      if (page.length < pageEntries) break
      after = page.at(-1)?.name
    }
    directories.done(handle)
  }
}

export function alreadyThere(path: string): KithError {
  return new KithError(
    'exists',
    `${path} exists already, and nothing was written: choose another place, or allow --overwrite if-changed or always`,
  )
}
