/**
 * Looks for names in all snapshots at once. The trees are walked side by side, path by path; what several snapshots
 * share, whole directories and parts of a directory's list alike, is read once for all of them. The memory is that of
 * one cursor for each different state of the directories on the way down.
 */
import { KithError } from '../base/errors.js'
import type { DirectoryEntry, Entry } from '../format/node.js'
import type { ListCursor } from './list-cursor.js'
import { compareEntries } from './tree-diff.js'
import type { TreeReader } from './tree-reader.js'

/** One state of a name, and the snapshots that have it: indices, ascending. */
export interface Version {
  entry: Entry
  snapshots: number[]
}

export interface Found extends Version {
  path: readonly Buffer[]
}

interface List {
  cursor: ListCursor
  snapshots: number[]
}

interface Level {
  path: readonly Buffer[]
  lists: List[]
}

/**
 * Every state of every name that `matches`, in the order of the paths' names; the states of a name by their first
 * snapshot. A directory counts as the same while its mode, owner and attributes do, whatever is in it.
 * @param roots of the snapshots, oldest first
 * @throws KithError cancelled when `signal` says so, damaged
 */
export async function* findInTrees(
  reader: TreeReader,
  roots: readonly DirectoryEntry[],
  matches: (entry: Entry) => boolean,
  signal?: AbortSignal,
): AsyncGenerator<Found> {
  const tops = roots.map((entry, i) => ({ entry, snapshots: [i] }))
  const stack: Level[] = [{ path: [], lists: await listsOf(reader, tops) }]
  for (let level = stack.at(-1); level; level = stack.at(-1)) {
    if (signal?.aborted) throw new KithError('cancelled', 'cancelled')
    const next = await advance(level.lists)
    if (next === undefined) {
      stack.pop()
    } else if ('shared' in next) {
      stack.push({ path: level.path, lists: [next.shared] })
    } else {
      const [first] = next.versions
      if (!first) continue
      const path = [...level.path, first.entry.name]
      const found = next.versions.filter(({ entry }) => matches(entry))
      for (const version of joinEqual(found)) yield { path, ...version }
      const lists = await listsOf(reader, next.versions)
      if (lists.length > 0) stack.push({ path, lists })
    }
  }
}

/** A list for each different node among the directories. */
async function listsOf(reader: TreeReader, versions: readonly Version[]): Promise<List[]> {
  const byNode = new Map<string, { entry: DirectoryEntry; snapshots: number[] }>()
  for (const { entry, snapshots } of versions) {
    if (entry.type !== 'directory') continue
    const key = entry.node.name.toString('latin1')
    const known = byNode.get(key)
    if (known) known.snapshots.push(...snapshots)
    else byNode.set(key, { entry, snapshots: [...snapshots] })
  }
  const lists: List[] = []
  for (const { entry, snapshots } of byNode.values()) {
    lists.push({ cursor: await reader.cursor(entry), snapshots })
  }
  return lists
}

/** The next name with its states, or a node that stands next in all lists; undefined at the end. */
async function advance(
  lists: readonly List[],
): Promise<{ versions: Version[] } | { shared: List } | undefined> {
  for (;;) {
    const live = lists.filter(({ cursor }) => cursor.front !== undefined)
    if (live.length === 0) return undefined
    const level = Math.max(...live.map(({ cursor }) => cursor.front?.level ?? -1))
    if (level < 0) return { versions: takeFirstName(live) }
    const shared = live.length > 1 ? await takeShared(live) : undefined
    if (shared) return { shared }
    for (const { cursor } of live) if (cursor.front?.level === level) await cursor.enter()
  }
}

async function takeShared(live: readonly List[]): Promise<List | undefined> {
  const first = live[0]?.cursor.front
  if (first?.kind !== 'node') return undefined
  const { name } = first.child.node
  const same = live.every(
    ({ cursor: { front } }) => front?.kind === 'node' && front.child.node.name.equals(name),
  )
  const cursor = same ? await live[0]?.cursor.below() : undefined
  if (!cursor) return undefined
  for (const list of live) list.cursor.skip()
  return { cursor, snapshots: live.flatMap(({ snapshots }) => snapshots) }
}

/** All fronts are entries: those of the first name. */
function takeFirstName(live: readonly List[]): Version[] {
  let versions: Version[] = []
  let taken: ListCursor[] = []
  let name: Buffer | undefined
  for (const { cursor, snapshots } of live) {
    if (cursor.front?.kind !== 'entry') continue
    const { entry } = cursor.front
    const order = name ? Buffer.compare(entry.name, name) : -1
    if (order > 0) continue
    if (order < 0) {
      name = entry.name
      versions = []
      taken = []
    }
    versions.push({ entry, snapshots })
    taken.push(cursor)
  }
  for (const cursor of taken) cursor.skip()
  return versions
}

/** The newest entry stands for all that are equal. */
function joinEqual(versions: readonly Version[]): Version[] {
  const joined: Version[] = []
  for (const { entry, snapshots } of versions) {
    const same = joined.find((version) => isSame(version.entry, entry))
    if (!same) joined.push({ entry, snapshots: [...snapshots] })
    else {
      if (Math.max(...snapshots) > Math.max(...same.snapshots)) same.entry = entry
      same.snapshots.push(...snapshots)
    }
  }
  for (const { snapshots } of joined) snapshots.sort((a, b) => a - b)
  return joined.sort((a, b) => (a.snapshots[0] ?? 0) - (b.snapshots[0] ?? 0))
}

function isSame(a: Entry, b: Entry): boolean {
  if (a.busy !== b.busy) return false
  if (a.type !== 'directory' || b.type !== 'directory') return compareEntries(a, b) === undefined
  return compareEntries({ ...a, mtimeNs: b.mtimeNs }, b) === undefined
}
