/**
 * What differs between two trees of a volume. Nodes are named by their content, so that equal parts, of the tree and of
 * each directory's list, are passed over by name: the cost follows the difference. One walk holds a cursor for each
 * directory on the way down, whatever the size of the trees.
 *
 * Differences come in the order of the paths' names, a directory before what is in it; what was added or removed with a
 * directory is told name by name. A rename is a removal and an addition.
 */
import { KithError } from '../base/errors.js'
import { extentBytes, type DirectoryEntry, type Entry, type Extent, type FileEntry } from '../format/node.js'
import type { ListCursor } from './list-cursor.js'
import type { TreeReader } from './tree-reader.js'

/**
 * `+` added, `-` removed, `M` content changed, `U` only what belongs to it changed (mode, owner, mtime, attributes), `T`
 * another type, `?` content changed though size, mtime and all else stayed.
 */
export const differenceMarks = ['+', '-', 'M', 'U', 'T', '?'] as const
export type DifferenceMark = (typeof differenceMarks)[number]

export interface Difference {
  mark: DifferenceMark
  /** empty for the root */
  path: readonly Buffer[]
  before: Entry | undefined
  after: Entry | undefined
}

interface Level {
  path: readonly Buffer[]
  before: ListCursor | undefined
  after: ListCursor | undefined
}

interface Pair {
  before: Entry | undefined
  after: Entry | undefined
}

/** @throws KithError cancelled when `signal` says so, damaged */
export async function* diffTrees(
  reader: TreeReader,
  before: DirectoryEntry,
  after: DirectoryEntry,
  signal?: AbortSignal,
): AsyncGenerator<Difference> {
  const mark = compareEntries(before, after)
  if (mark) yield { mark, path: [], before, after }
  const stack: Level[] = []
  const descend = async (path: readonly Buffer[], pair: Pair) => {
    const level = await levelOf(reader, path, pair)
    if (level) stack.push(level)
  }
  await descend([], { before, after })
  for (let level = stack.at(-1); level; level = stack.at(-1)) {
    if (signal?.aborted) throw new KithError('cancelled', 'cancelled')
    const pair = await nextPair(level)
    const name = (pair?.after ?? pair?.before)?.name
    if (!pair || !name) {
      stack.pop()
      continue
    }
    const path = [...level.path, name]
    const found = await compareWithParts(reader, pair.before, pair.after)
    if (found) yield { mark: found, path, ...pair }
    await descend(path, pair)
  }
}

async function levelOf(
  reader: TreeReader,
  path: readonly Buffer[],
  { before, after }: Pair,
): Promise<Level | undefined> {
  const old = before?.type === 'directory' ? before : undefined
  const now = after?.type === 'directory' ? after : undefined
  if (old && now && old.node.name.equals(now.node.name)) return undefined
  if (!old && !now) return undefined
  return {
    path,
    before: old && (await reader.cursor(old)),
    after: now && (await reader.cursor(now)),
  }
}

/** The next name that may differ. Of two nodes that are not the same the higher one is opened. */
async function nextPair({ before: a, after: b }: Level): Promise<Pair | undefined> {
  for (;;) {
    const x = a?.front
    const y = b?.front
    if (!x && !y) return undefined
    if (x?.kind === 'node' && y?.kind === 'node' && x.child.node.name.equals(y.child.node.name)) {
      a?.skip()
      b?.skip()
    } else if (x?.kind === 'node' && x.level >= (y?.level ?? -1)) {
      await a?.enter()
    } else if (y?.kind === 'node') {
      await b?.enter()
    } else {
      const old = x?.kind === 'entry' ? x.entry : undefined
      const now = y?.kind === 'entry' ? y.entry : undefined
      const order = !old ? 1 : !now ? -1 : Buffer.compare(old.name, now.name)
      if (order <= 0) a?.skip()
      if (order >= 0) b?.skip()
      return { before: order <= 0 ? old : undefined, after: order >= 0 ? now : undefined }
    }
  }
}

/** How two states of one name differ; undefined when they do not. Inode, ctime and link count do not count. */
export function compareEntries(
  before: Entry | undefined,
  after: Entry | undefined,
): DifferenceMark | undefined {
  if (!before) return after && '+'
  if (!after) return '-'
  if (before === after) return undefined
  if (before.type !== after.type) return 'T'
  const sameRest = sameMetadata(before, after)
  if (sameContent(before, after)) return sameRest ? undefined : 'U'
  return sameRest && before.size === after.size ? '?' : 'M'
}

/** The same; equal bytes may be in several packs, or in a chunk of their own: of small files they are compared. */
async function compareWithParts(
  reader: TreeReader,
  before: Entry | undefined,
  after: Entry | undefined,
): Promise<DifferenceMark | undefined> {
  const mark = compareEntries(before, after)
  if (before?.type !== 'file' || after?.type !== 'file' || before.size !== after.size) return mark
  if ((mark !== 'M' && mark !== '?') || !(isPart(before) || isPart(after))) return mark
  try {
    const [old, now] = await Promise.all([before, after].map((file) => reader.read(file, 0, file.size)))
    return old && now?.equals(old) ? compareEntries({ ...before, content: after.content }, after) : mark
  } catch (error) {
    // They cannot be had: then they are told as what they are stored as.
    if (error instanceof KithError && error.code !== 'cancelled') return mark
    throw error
  }
}

function isPart({ content }: FileEntry): boolean {
  return content.kind === 'extents' && content.extents[0]?.kind === 'part'
}

function sameMetadata(a: Entry, b: Entry): boolean {
  // A directory's time changes with the names in it, which are told by themselves.
  const timed = a.type !== 'directory' || b.type !== 'directory' || a.node.name.equals(b.node.name)
  return (
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    (!timed || a.mtimeNs === b.mtimeNs) &&
    sameXattrs(a, b)
  )
}

/** Both in the order of the names' bytes, as entries have them. */
export function sameXattrs(a: Pick<Entry, 'xattrs'>, b: Pick<Entry, 'xattrs'>): boolean {
  return (
    a.xattrs.length === b.xattrs.length &&
    a.xattrs.every(([name, value], i) => b.xattrs[i]?.[0].equals(name) && b.xattrs[i][1].equals(value))
  )
}

/** Content as it is stored; what is below a directory is not its own content. */
function sameContent(a: Entry, b: Entry): boolean {
  if (a.type === 'file') return b.type === 'file' && sameBytes(a, b)
  if (a.type === 'symlink') return b.type === 'symlink' && a.target.equals(b.target)
  if (a.type === 'character' || a.type === 'block') return 'rdev' in b && a.rdev === b.rdev
  return true
}

function sameBytes({ size, content: a }: FileEntry, { size: other, content: b }: FileEntry): boolean {
  if (size !== other) return false
  if (a.kind === 'inline') return b.kind === 'inline' && a.bytes.equals(b.bytes)
  if (a.kind === 'list') return b.kind === 'list' && a.node.name.equals(b.node.name)
  if (b.kind !== 'extents' || a.extents.length !== b.extents.length) return false
  return a.extents.every((extent, i) => sameExtent(extent, b.extents[i]))
}

/** A chunk's key is a hash of its plaintext. */
function sameExtent(a: Extent, b: Extent | undefined): boolean {
  if (a.kind === 'hole') return b?.kind === 'hole' && a.bytes === b.bytes
  if (!b || b.kind === 'hole' || startOf(a) !== startOf(b) || extentBytes(a) !== extentBytes(b)) return false
  return a.chunk.plainBytes === b.chunk.plainBytes && a.chunk.key.equals(b.chunk.key)
}

function startOf(extent: Extent): number {
  return extent.kind === 'part' ? extent.offset : 0
}
