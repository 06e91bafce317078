/** What the store offers to the daemon, to the mount and to restores. `Store.open` (store.ts) gives a VolumeStore. */
import type { BlockReader, BlockStore } from '../blocks/block-store.js'
import type { Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import type { Change } from '../format/changes.js'
import type { Circle } from '../format/head.js'
import type { Identity, VolumeKeys } from '../format/keys.js'
import type { NodeRef } from '../format/seal.js'
import type { LeftOutCounts } from './exclusions.js'
import type { Rewrites } from './rewrites.js'
import type { ExcludeSettings } from './rules.js'
import type { SnapshotInfo } from './snapshot-info.js'
import type { ReadAheadResult } from './read-ahead.js'
import type { TreeReader } from './tree-reader.js'

export type { LeftOutCounts } from './exclusions.js'
export type { ExcludeSettings } from './rules.js'
export type { SnapshotInfo } from './snapshot-info.js'

export interface StoreOptions {
  clock: Clock
  log: Log
  identity: Identity
  /** The circles to put into the heads that are signed from now on, asked each time; none unless given. */
  circles?: () => Circle[]
  /** Whether as many partners as are asked for hold a block that is not kept here; nobody does unless given. */
  isSafe?: (sequence: number, name: Buffer) => boolean
  /** Whether chunks that are fetched from partners are kept; they are unless told otherwise. */
  hasRoom?: () => boolean
  /** Worker threads that read, cut and seal; as many as the machine has processors unless told. */
  workers?: number
}

export interface VolumeStore {
  readonly blocks: BlockStore
  volumes(): ProtectedVolume[]
  /**
   * @param options.keys not given: of its own
   * @throws KithError exists when a volume has this directory
   */
  createVolume(options: { dir: string; keys?: VolumeKeys }): Promise<ProtectedVolume>
  /**
   * Takes a volume over from its newest head after a recovery: its blocks come from `blocks`, and the snapshot list's
   * are kept here.
   * @throws KithError damaged when the head is not this identity's, or its list cannot be read
   */
  importVolume(options: { head: Buffer; dir: string; blocks: BlockReader }): Promise<ProtectedVolume>
  /** Forgets the volume with all its state; `release` also frees the blocks when no other volume is left. */
  removeVolume(id: Buffer): Promise<void>
  /** Stops what runs. */
  close(): Promise<void>
}

export interface SnapshotOptions {
  /** Ends the snapshot early, with KithError cancelled; what was sealed so far stays and is not done again. */
  signal?: AbortSignal
  progress?: (done: { files: number; bytes: number }) => void
  /** Marks of the new snapshot. */
  tags?: readonly string[]
  pinned?: boolean
}

/** What is to become of the marks of snapshots. */
export interface MarkChange {
  pinned?: boolean
  /** these instead of those there */
  tags?: readonly string[]
  addTags?: readonly string[]
  removeTags?: readonly string[]
}

/** Something that a snapshot had to leave out or could not take at rest. */
export interface SnapshotProblem {
  /** Path below the root; bytes that are no UTF-8 are replaced. */
  path: string
  what: 'unreadable' | 'busy' | 'mounted'
  /** One line, e.g. `EACCES`. */
  why: string
}

export interface SnapshotResult extends SnapshotInfo {
  /** How many problems there were; the first few are told. */
  problemCount: number
  problems: SnapshotProblem[]
  /** What the rules left out. */
  excluded: LeftOutCounts
}

export interface PendingChanges {
  /** Files and directories changed since the last snapshot. */
  inodes: number
  /** Bytes written to them, as far as the change log tells. */
  bytes: number
  /** Files that may change unseen, as programs have them open or mapped. */
  open: number
  /** Whether everything must be looked at. */
  everything: boolean
}

export interface ProtectedVolume {
  /** 16 bytes */
  readonly id: Buffer
  /** absolute path of the protected directory */
  readonly dir: string
  readonly keys: VolumeKeys
  /** Durable when it resolves. */
  recordChanges(changes: readonly Change[]): Promise<void>
  /** The change log has a gap: the next snapshot compares everything. Durable when it resolves. */
  recordEverything(): Promise<void>
  pending(): PendingChanges
  /** Inodes whose content is known to have changed, and was not read since. */
  changedFiles(): bigint[]
  /** Inodes that may change without being told. */
  openFiles(): bigint[]
  /** Files are to be read ahead within a second or so: what takes a while to start, starts. */
  prepare(): void
  /**
   * Reads what changed in these files, so that the next snapshot need not; it is in the store, durably, when this resolves.
   * A snapshot that is asked for ends it early. What is not worth it, or is not found, is left to the snapshot.
   * @throws KithError noSpace
   */
  readAhead(rootFd: number, inos: readonly bigint[], signal?: AbortSignal): Promise<ReadAheadResult>
  /** Time of the newest snapshot that this head of the volume names; undefined: no longer known. */
  pointOf(headSequence: number): number | undefined
  /** What is set to be left out, beside .kithignore files. */
  excludes(): ExcludeSettings
  /** Durable when it resolves; the next snapshot looks at everything. */
  setExcludes(settings: ExcludeSettings): Promise<void>
  /** How many names the last snapshot left out. */
  excluded(): LeftOutCounts
  /**
   * Takes a snapshot of the directory behind `rootFd`. Calls run one after the other.
   * @param told changes that are not recorded: they are taken in with those that are, and need not be recorded once this
   *   resolves. When it fails, nothing is known of them here
   */
  snapshot(rootFd: number, options?: SnapshotOptions, told?: readonly Change[]): Promise<SnapshotResult>
  /** What snapshots and reading ahead found files to have become. */
  readonly rewrites: Rewrites
  /** Oldest first. */
  snapshots(): SnapshotInfo[]
  /** Those that these names mean (snapshot-info.ts, exactSnapshot), each once. @throws KithError notFound */
  named(names: readonly string[]): SnapshotInfo[]
  /**
   * Pins, unpins, tags snapshots, by their names; all of them or none.
   * @returns those given, as they are now
   * @throws KithError notFound, usage for a bad tag
   */
  mark(names: readonly string[], change: MarkChange): Promise<SnapshotInfo[]>
  /**
   * Takes snapshots off the list, by their names; all of them or none. What only they used is freed by a prune.
   * @returns those that went
   * @throws KithError notFound
   */
  forget(names: readonly string[]): Promise<SnapshotInfo[]>
  /** Keeps a prune from taking what is below this node, until what is returned is called. */
  hold(node: NodeRef): () => void
  /** The newest signed head. A volume has one from its first snapshot on. */
  head(): Buffer | undefined
  /** Signs the head anew, under the next sequence number, after the circles changed. */
  renewHead(): Promise<void>
  /** Reads this volume's snapshots, with blocks from `blocks`. */
  reader(blocks: BlockReader): TreeReader
  /** Keeps here what is fetched from partners, verified: gives a reader that looks here first. */
  adopting(remote: BlockReader): BlockReader
  /** After an import: makes the blocks that are held here known again, so that unchanged files cost no new ones. */
  rebuildIndex(reader: TreeReader): Promise<{ chunks: number }>
  /** The directory has moved. */
  setDir(dir: string): Promise<void>
}
