/**
 * Descriptors for a tree of directories of any depth and width, with a bound on how many are open.
 *
 * A directory is known by its parent and its name. One that is in use stays open; of the others the last used stay
 * open, and the rest are opened again when needed, from the nearest open ancestor down, name by name, without following
 * symlinks. A directory that is not the one it was (other device or inode) is refused: whoever moves directories under a
 * running restore cannot steer it elsewhere.
 */
import { assert, KithError } from '../base/errors.js'
import { close, openDirectoryAt, statFd } from '../base/posix.js'
import { pathText } from '../base/path-text.js'

export interface DirectoryHandle {
  readonly parent: DirectoryHandle | undefined
  /** empty for the root */
  readonly name: Buffer
  readonly dev: bigint
  readonly ino: bigint
}

interface Handle extends DirectoryHandle {
  readonly parent: Handle | undefined
  fd: number | undefined
  users: number
}

export class OpenDirectories {
  readonly root: DirectoryHandle
  readonly #limit: number
  /** open and unused, least recently used first */
  readonly #idle = new Set<Handle>()

  /** Owns `rootFd` from now on. At most `limit` unused directories stay open. */
  constructor(rootFd: number, limit = 48) {
    const { dev, ino } = statFd(rootFd)
    this.#limit = limit
    const root: Handle = { parent: undefined, name: Buffer.alloc(0), dev, ino, fd: rootFd, users: 1 }
    this.root = root
  }

  /** The directory `name` in `parent`, whose descriptor is `parentFd`. */
  child(parent: DirectoryHandle, parentFd: number, name: Buffer): DirectoryHandle {
    const fd = openDirectoryAt(parentFd, name)
    const { dev, ino } = statFd(fd)
    const handle: Handle = { parent: parent as Handle, name, dev, ino, fd, users: 0 }
    this.#rest(handle)
    return handle
  }

  /** Runs `work` with the directory's descriptor, which stays valid until it ends. */
  async use<T>(directory: DirectoryHandle, work: (fd: number) => T | Promise<T>): Promise<T> {
    const handle = directory as Handle
    const fd = this.#acquire(handle)
    try {
      return await work(fd)
    } finally {
      this.#release(handle)
    }
  }

  /** The same for work that does not wait. */
  useSync<T>(directory: DirectoryHandle, work: (fd: number) => T): T {
    const handle = directory as Handle
    const fd = this.#acquire(handle)
    try {
      return work(fd)
    } finally {
      this.#release(handle)
    }
  }

  /** Says that the directory is not needed soon. It may still be used. */
  done(directory: DirectoryHandle): void {
    const handle = directory as Handle
    if (this.#idle.delete(handle)) this.#close(handle)
  }

  closeAll(): void {
    for (const handle of this.#idle) this.#close(handle)
    this.#idle.clear()
    const root = this.root as Handle
    if (root.fd !== undefined) this.#close(root)
  }

  #acquire(handle: Handle): number {
    if (handle.fd === undefined) this.#reopen(handle)
    assert(handle.fd !== undefined, 'a directory in use is open')
    this.#idle.delete(handle)
    handle.users++
    return handle.fd
  }

  #release(handle: Handle): void {
    handle.users--
    if (handle.users === 0) this.#rest(handle)
  }

  #rest(handle: Handle): void {
    this.#idle.add(handle)
    for (const oldest of this.#idle) {
      if (this.#idle.size <= this.#limit) break
      this.#idle.delete(oldest)
      this.#close(oldest)
    }
  }

  #close(handle: Handle): void {
    if (handle.fd !== undefined) close(handle.fd)
    handle.fd = undefined
  }

  #reopen(handle: Handle): void {
    const missing: Handle[] = []
    let nearest: Handle = handle
    while (nearest.fd === undefined) {
      missing.push(nearest)
      assert(nearest.parent !== undefined, 'the root is open')
      nearest = nearest.parent
    }
    // Each step needs only the one above, which was opened last and so is the last to be closed.
    let fd = nearest.fd
    for (const next of missing.reverse()) {
      next.fd = openDirectoryAt(fd, next.name)
      const { dev, ino } = statFd(next.fd)
      if (dev !== next.dev || ino !== next.ino) {
        this.#close(next)
        throw new KithError('busy', `${pathText(pathOf(next))} was moved while kith wrote into it; try again`)
      }
      fd = next.fd
      this.#rest(next)
    }
  }
}

/** The names from the root down. */
export function pathOf(directory: DirectoryHandle): Buffer[] {
  const names: Buffer[] = []
  for (let at: DirectoryHandle | undefined = directory; at?.parent; at = at.parent) names.push(at.name)
  return names.reverse()
}
