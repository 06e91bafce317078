/**
 * Counts what rewriting files makes of them, for the brake (daemon/brake.ts). A file is scrambled when its new content
 * does not compress, shares no chunk with the version before, and is about as long: so does encryption look, and
 * hardly anything else that happens to a file that was there.
 *
 * The version before is what the last snapshot, or a reading ahead since, has of the same file; else of its name, as many
 * programs write a new file and rename it over the old one; else of its name without the last suffix (a.txt for
 * a.txt.locked). A file that was born after that version was read is another one with its inode number.
 *
 * Cost: nothing is read or compressed for this. Sizes and names of blocks are known when a file was sealed; the version before
 * is only looked at when the new one does not compress. Of a file of many chunks the first `looked` decide.
 *
 * What is read is counted for the snapshot that was the newest then, and not when somebody asks: a reading ahead may come
 * between a snapshot and who asks for its counts.
 */
import { maxInlineBytes, type Entry, type Extent, type FileEntry } from '../format/node.js'
import type { NodeRef } from '../format/seal.js'
import type { SnapshotRecord } from '../format/snapshot-list.js'
import type { Nodes } from './nodes.js'
import { infoOf, type SnapshotInfo } from './snapshot-info.js'
import { findEntry, walkPieces } from './tree-walk.js'

const looked = 64
/** Sealed bytes of what does not compress, of its plain ones. Compressed pictures come near; no text does. */
const incompressible = 0.95

export interface RewriteCounts {
  /** that were read, new or changed, but for those of a few hundred bytes */
  files: number
  scrambled: number
}

/** What was read while a snapshot was the newest. */
export interface CountsSince extends RewriteCounts {
  /** none: before the first one */
  since: SnapshotInfo | undefined
}

interface Counted extends RewriteCounts {
  since: SnapshotRecord | undefined
}

/** A file that was read, and how to find what it may have been. */
export interface Reread {
  entry: Entry
  /** the birth of the file, 0 where it is not known */
  btimeNs: bigint
  /** of the same inode */
  before: Entry | undefined
  /** of the same name, or nearly */
  replaced: (() => Promise<Entry | undefined>) | undefined
}

export class Rewrites {
  private counted: Counted[] = []

  /** @param newest the newest snapshot that there is */
  constructor(private readonly newest: () => SnapshotRecord | undefined) {}

  /** What was counted since the last time, oldest snapshot first; last that since the newest one, also when nothing was read. */
  take(): CountsSince[] {
    this.counts()
    const { counted } = this
    this.counted = []
    return counted.map(({ since, ...counts }) => ({ ...counts, since: since && infoOf(since) }))
  }

  /** @returns what is to be waited for, when there is more to look at than the entry */
  note(nodes: Nodes, reread: Reread): Promise<void> | undefined {
    const { entry } = reread
    if (!isCounted(entry)) return undefined
    this.counts().files++
    if (!reread.before && !reread.replaced) return undefined
    const { content } = entry
    if (content.kind === 'extents' && !isIncompressible(held(content.extents))) return undefined
    return this.compare(nodes, entry, reread)
  }

  private counts(): RewriteCounts {
    const since = this.newest()
    const last = this.counted.at(-1)
    if (last && isSame(last.since, since)) return last
    const counts = { since, files: 0, scrambled: 0 }
    this.counted.push(counts)
    return counts
  }

  private async compare(nodes: Nodes, now: FileEntry, { btimeNs, before, replaced }: Reread): Promise<void> {
    const extents = await firstExtents(nodes, now)
    if (!isIncompressible(extents)) return
    const same = before && btimeNs <= before.ctimeNs ? before : await replaced?.()
    if (!isCounted(same) || !isAsLong(now, same)) return
    const names = new Set(extents.map(idOf))
    const old = await firstExtents(nodes, same)
    if (!old.some((extent) => names.has(idOf(extent)))) this.counts().scrambled++
  }
}

/** Marks make another record of the same snapshot. */
function isSame(a: SnapshotRecord | undefined, b: SnapshotRecord | undefined): boolean {
  return a === b || (a !== undefined && b?.id.equals(a.id) === true)
}

/** The entry that a directory of the last snapshot has by this name, or by the name without its last suffix. */
export async function formerlyNamed(
  nodes: Nodes,
  directory: NodeRef | undefined,
  name: Buffer,
): Promise<Entry | undefined> {
  if (!directory) return undefined
  const dot = name.lastIndexOf('.')
  const same = await findEntry(nodes, directory, name)
  return same ?? (dot > 0 ? findEntry(nodes, directory, name.subarray(0, dot)) : undefined)
}

function isCounted(entry: Entry | undefined): entry is FileEntry {
  return entry?.type === 'file' && entry.size > maxInlineBytes
}

function isAsLong(now: FileEntry, before: FileEntry): boolean {
  return now.size >= before.size * 0.75 && now.size <= before.size * 1.25 + 65_536
}

type Held = Exclude<Extent, { kind: 'hole' }>

function isIncompressible(extents: readonly Held[]): boolean {
  let plain = 0
  let sealed = 0
  for (const { chunk } of extents) {
    plain += chunk.plainBytes
    sealed += chunk.sealedBytes
  }
  return plain > 0 && sealed >= plain * incompressible
}

function held(extents: readonly Extent[]): Held[] {
  return extents.filter((extent) => extent.kind !== 'hole')
}

async function firstExtents(nodes: Nodes, file: FileEntry): Promise<Held[]> {
  if (file.content.kind === 'extents') return held(file.content.extents)
  const found: Held[] = []
  for await (const { extent } of walkPieces(nodes, file)) {
    if (extent.kind !== 'hole') found.push(extent)
    if (found.length >= looked) break
  }
  return found
}

/** Equal for equal content: small files that share a block differ by where they lie in it. */
function idOf(extent: Held): string {
  const name = extent.chunk.name.toString('latin1')
  return extent.kind === 'part' ? `${name}${extent.offset}` : name
}
