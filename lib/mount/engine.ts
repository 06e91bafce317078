/**
 * The ways to know what changes in a protected directory: kith-fuse, mounted over it, or a watcher of the plain directory. All
 * above sees a LiveMount.
 */
import { outsidersOf, type Holder } from './holders.js'
import { isMountedAt, Mount } from './mount.js'
import type { EngineName, LiveMount, MountOptions } from './types.js'
import { WatchedDirectory } from './watch.js'

export interface Engine {
  /** @param expected inode number; a directory with another is refused: notFound */
  start(options: MountOptions, expected?: bigint): Promise<LiveMount>
  /** Joins what a daemon before this one left running; undefined when there is none. */
  reattach(options: MountOptions): Promise<LiveMount | undefined>
  /** Whether it is still there, as far as can be told without waiting. */
  isThere(dir: string): boolean
  /** Programs whose changes it does not see. */
  outsiders(mount: LiveMount): Promise<Holder[]>
}

export const engines: Record<EngineName, Engine> = {
  fuse: {
    start: (options, expected) => Mount.start(options, expected),
    reattach: (options) => Mount.reattach(options),
    isThere: isMountedAt,
    outsiders: ({ dir, serverPid = 0 }) => outsidersOf(dir, serverPid),
  },
  watch: {
    start: (options, expected) => WatchedDirectory.start(options, expected),
    reattach: () => Promise.resolve(undefined),
    isThere: () => true,
    outsiders: () => Promise.resolve([]),
  },
}
