/**
 * Files of which only ranges changed: cut again from the chunk where a change begins until new cuts meet the old ones,
 * however large the file. The rest of its list stays.
 */
import {
  extentBytes,
  maxDirectExtents,
  type Extent,
  type FileContent,
  type FileEntry,
} from '../format/node.js'
import type { DirtyRange } from './dirty.js'
import { fileList, type FilePart, type NodeAccess } from './list-kinds.js'
import { editList, type Edit } from './lists.js'
import type { Nodes } from './nodes.js'
import type { Span, SpanRequest } from './seal-messages.js'
import { walkPieces } from './tree-walk.js'

/** Below this, reading the whole file is as good. */
const worthwhileBytes = 2 * 1024 * 1024
/** Ranges nearer than this are cut as one. */
const nearBytes = 1024 * 1024
/** Old ends behind a range that cutting may meet: at the average chunk some 16 MiB. */
const endsGiven = 256

/**
 * What to cut again; undefined where the whole file is to be read.
 * @param ranges ascending, apart from each other
 */
export async function planSpans(
  nodes: Nodes,
  before: FileEntry,
  ranges: readonly DirtyRange[],
  size: number,
): Promise<SpanRequest[] | undefined> {
  if (size < worthwhileBytes || before.size < worthwhileBytes) return undefined
  const requests: SpanRequest[] = []
  for (const { start, end } of changedRanges(ranges, before.size, size)) {
    const last = requests.at(-1)
    if (last && start < last.until + nearBytes) {
      last.until = Math.max(last.until, end)
      continue
    }
    const [piece] = await collect(nodes, before, start, start + 1, 1)
    if (piece?.extent.kind !== 'chunk') return undefined
    requests.push({ from: piece.offset, until: end, ends: [] })
  }
  for (const request of requests) {
    for (const { offset, extent } of await collect(nodes, before, request.until - 1, Infinity, endsGiven)) {
      // A chunk that ended with the file ended there by force.
      const end = offset + extentBytes(extent)
      if (extent.kind === 'chunk' && end < before.size) request.ends.push(end)
    }
  }
  return requests
}

/** Within the file as it is; a change of length touches the last chunk of the shorter of both. */
function changedRanges(ranges: readonly DirtyRange[], oldSize: number, size: number): DirtyRange[] {
  const all = [...ranges]
  if (oldSize !== size) all.push({ start: Math.min(oldSize, size) - 1, end: size })
  return all
    .map(({ start, end }) => ({
      start: Math.min(start, oldSize - 1, size - 1),
      end: Math.min(end, size),
    }))
    .filter(({ start, end }) => start < end)
    .sort((a, b) => a.start - b.start)
}

async function collect(nodes: Nodes, file: FileEntry, from: number, to: number, limit: number) {
  const pieces = []
  for await (const piece of walkPieces(nodes, file, from, to)) {
    pieces.push(piece)
    if (pieces.length >= limit) break
  }
  return pieces
}

/** The content that a file has after its spans were cut again; undefined when they run into each other. */
export async function applySpans(
  access: NodeAccess,
  before: FileEntry,
  spans: readonly Span[],
  size: number,
): Promise<FileContent | undefined> {
  const edits = new Map<number, Edit<number, FilePart>>()
  let reached = 0
  for (const { from, to, extents } of spans) {
    if (from < reached) return undefined
    reached = to
    const gone = to === size ? Infinity : to
    for await (const { offset, extent } of walkPieces(access.nodes, before, from, gone)) {
      const key = offset + extentBytes(extent)
      edits.set(key, { key, part: undefined })
    }
    addExtents(edits, from, extents)
  }
  const root = before.content.kind === 'list' ? before.content.node : undefined
  if (!root) {
    for await (const { offset, extent } of walkPieces(access.nodes, before)) {
      const end = offset + extentBytes(extent)
      if (!edits.has(end) && !covered(spans, end)) edits.set(end, { key: end, part: { extent, end } })
    }
  }
  return contentOf(access, root, edits)
}

function covered(spans: readonly Span[], end: number): boolean {
  return spans.some((span) => end > span.from && end <= span.to)
}

/** The content of a file that was read as a whole. */
export function wholeContent(access: NodeAccess, span: Span): Promise<FileContent> {
  const edits = new Map<number, Edit<number, FilePart>>()
  addExtents(edits, span.from, span.extents)
  return contentOf(access, undefined, edits)
}

function addExtents(
  edits: Map<number, Edit<number, FilePart>>,
  from: number,
  extents: readonly Extent[],
): void {
  let end = from
  for (const extent of extents) {
    end += extentBytes(extent)
    edits.set(end, { key: end, part: { extent, end } })
  }
}

async function contentOf(
  access: NodeAccess,
  root: FileListRoot,
  edits: Map<number, Edit<number, FilePart>>,
): Promise<FileContent> {
  const sorted = [...edits.values()].sort((a, b) => a.key - b.key)
  if (!root) {
    const extents = sorted.flatMap(({ part }) => (part && 'extent' in part ? [part.extent] : []))
    if (extents.length === 0) return { kind: 'inline', bytes: Buffer.alloc(0) }
    if (extents.length <= maxDirectExtents) return { kind: 'extents', extents }
  }
  const list = fileList(access)
  const node = await editList(list, root, sorted)
  const { level, parts } = await list.load(node, undefined)
  if (level === 0 && parts.length <= maxDirectExtents) {
    return { kind: 'extents', extents: parts.flatMap((part) => ('extent' in part ? [part.extent] : [])) }
  }
  return { kind: 'list', node }
}

type FileListRoot = Parameters<typeof editList>[1]
