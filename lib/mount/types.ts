/** What the mount offers to the daemon, and what it wants from it. */
import type { Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import type { Change } from '../format/changes.js'
import type { Entry, Extent } from '../format/entry.js'
import type { Holder } from './holders.js'

export const engineNames = ['fuse', 'watch'] as const
export type EngineName = (typeof engineNames)[number]

export interface MountOptions {
  /** absolute path of the directory to protect */
  dir: string
  /** KITH_HOME; the state of the mount lies in mounts/<volume id> below it */
  home: string
  /** 16 bytes */
  volumeId: Buffer
  clock: Clock
  log: Log
}

export interface Taken {
  changes: Change[]
  /** more changed than the log could hold: everything must be looked at */
  lost: boolean
}

/** What was open when the mount was taken off; it works until it is closed. */
export interface Stopped {
  /** files, relative to the directory */
  stillOpen: string[]
  /** the processes that have them open, or stand in the directory, as far as this user may see them */
  holders: Holder[]
}

/**
 * A directory mounted over itself by a kith-fuse of its own. `Mount.start(options)` makes one, `Mount.reattach(options)`
 * finds the one that a daemon before this one left running (undefined when there is none).
 */
export interface LiveMount {
  readonly dir: string
  /**
   * The directory under the mount. All reading of the live tree goes through it: a path through the mount would wait
   * for kith-fuse, and stop this process when that one is stuck. Closed by stop() and detach().
   */
  readonly rootFd: number
  /** process id of what serves it, if anything does */
  readonly serverPid?: number
  /** what a person should know of how it is protected, each one line */
  readonly problems?: string[]
  /** files may have changed unseen (the mount is new, or the one before died): everything must be looked at once */
  readonly needsScan: boolean
  /** what changed since the last done(); the same again until done() says that it was made durable */
  take(): Promise<Taken>
  /** forgets what the last take() returned; the caller has made it durable */
  done(): Promise<void>
  /** writes mapped pages out to the files, so that what was written by mmap can be read through rootFd */
  sync(): Promise<void>
  /** answers `.snapshots` from this catalog from now on */
  serve(catalog: SnapshotCatalog): void
  /** a snapshot came or went: drops what the kernel keeps of the list */
  snapshotsChanged(): Promise<void>
  /** unmounts; the plain files stay. Files that are still open below the mount keep working until they are closed */
  stop(): Promise<Stopped>
  /** lets go of the mount and leaves it running, for the next daemon to reattach */
  detach(): void
  /** wake: the log has something new. lost: kith-fuse is gone. replaced: another daemon took the mount over.
   * After lost and replaced rootFd stays open until detach(). */
  on(event: 'wake' | 'lost' | 'replaced', listener: () => void): this
  off(event: 'wake' | 'lost' | 'replaced', listener: () => void): this
}

export interface SnapshotListing {
  /** exact instant, e.g. 2024-06-01T09-30-00Z; unique */
  name: string
  /** unique, and never another's again */
  id: string
  /** milliseconds since 1970 */
  time: number
}

/** Reads snapshots. Fits store/tree-reader.ts's TreeReader. Whatever it returns was verified. */
export interface SnapshotReader {
  /** the root directory of a snapshot, by its exact name */
  snapshot(name: string): Promise<Entry>
  lookup(directory: Entry, name: Buffer): Promise<Entry | undefined>
  /** entries in byte order of their names, those after `after`, at most `limit` */
  list(directory: Entry, after?: Buffer, limit?: number): Promise<Entry[]>
  read(file: Entry, offset: number, length: number): Promise<Buffer>
  /** the extents that overlap [from, to), in order; none for files kept inline */
  pieces(file: Entry, from?: number, to?: number): AsyncIterable<{ offset: number; extent: Extent }>
}

/** A volume's snapshots. `list` fits store/'s ProtectedVolume.snapshots. */
export interface SnapshotCatalog {
  /** oldest first */
  list(): SnapshotListing[]
  /** asked at each use, so that it may change with where the blocks are */
  reader(): SnapshotReader
}
