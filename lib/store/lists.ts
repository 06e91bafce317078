/**
 * Edits of content-defined lists (format/node.ts): directories, file extents, the snapshot list. An edit re-writes the
 * nodes around it and the index nodes above, and reads no others, however long the list.
 *
 * Every level is a sequence of parts in ascending order of their keys: items on level 0, children above, where the key
 * of a child is the last key below it. So one procedure serves all levels: merge the edits into the node that they fall
 * into, cut it again from its start, and go on into the next node until a new end meets the old one; the nodes that
 * went and came are the edits of the level above.
 *
 * Where parts only take the place of others with their keys, and the node does not grow, it ends where it did: it is not cut
 * again, which is most of what is to be done for a few changed files.
 */
import { isBoundary, NodeCutter } from '../format/node.js'
import type { NodeRef } from '../format/seal.js'

/** What the procedure needs to know of one kind of list. `Part` is an item of level 0 or a child of the others. */
export interface ListKind<Key, Part> {
  /** @param start the key just before the node, undefined for the first of its level */
  load(ref: NodeRef, start: Key | undefined): Promise<{ level: number; parts: Part[] }>
  /** Stores the node of these parts, and gives the child that stands for it above. */
  save(level: number, parts: Part[]): Promise<Part>
  /** The node that a child stands for. */
  refOf(child: Part): NodeRef
  keyOf(part: Part): Key
  compare(a: Key, b: Key): number
  /** Encoded length, and the key that decides on ends: for NodeCutter. */
  bytesOf(part: Part): number
  boundaryOf(part: Part): Buffer
}

/** Puts `part` at `key`, or takes away what is there. */
export interface Edit<Key, Part> {
  key: Key
  part: Part | undefined
}

/**
 * The list at `root` (undefined: an empty one) with `edits`, which ascend and have each key once.
 * @param replaced is told what stood and what stands now at each key of level 0
 */
export async function editList<Key, Part>(
  kind: ListKind<Key, Part>,
  root: NodeRef | undefined,
  edits: readonly Edit<Key, Part>[],
  replaced: (before: Part | undefined, now: Part | undefined) => void = () => undefined,
): Promise<NodeRef> {
  if (root && edits.length === 0) return root
  const top = root ? (await kind.load(root, undefined)).level : 0
  let pending = edits
  for (let level = 0; level <= top; level++) {
    pending = await new LevelEdit(kind, root, level).run(pending, level === 0 ? replaced : undefined)
  }
  const nodes: Part[] = []
  for (const { part } of pending) if (part !== undefined) nodes.push(part)
  return raise(kind, nodes, top)
}

/** The root over all nodes of a level: index levels as needed, and none that has a single child. */
async function raise<Key, Part>(kind: ListKind<Key, Part>, nodes: Part[], from: number): Promise<NodeRef> {
  let level = from
  let current = nodes
  while (current.length > 1) {
    level++
    const groups = new Groups(kind, level)
    for (const part of current) if (groups.add(part)) await groups.store()
    await groups.close()
    current = groups.saved
  }
  let root = kind.refOf(current[0] ?? (await kind.save(0, [])))
  for (;;) {
    const { level: height, parts } = await kind.load(root, undefined)
    const [only] = parts
    if (height === 0 || parts.length !== 1 || only === undefined) return root
    root = kind.refOf(only)
  }
}

/** Cuts parts into nodes and stores them. */
class Groups<Key, Part> {
  readonly saved: Part[] = []
  private readonly cutter: NodeCutter
  private group: Part[] = []
  /** Nodes not stored yet. */
  private readonly complete: Part[][] = []

  constructor(
    private readonly kind: ListKind<Key, Part>,
    private readonly level: number,
  ) {
    this.cutter = new NodeCutter(level)
  }

  /** Whether the last node is complete. */
  get atEnd(): boolean {
    return this.group.length === 0
  }

  /**
   * Whether a node was completed, which store() then takes.
   * @param inner the part did not end its old node, so it ends none
   */
  add(part: Part, inner = false): boolean {
    if (this.cutter.before(this.kind.bytesOf(part))) this.cut()
    this.group.push(part)
    if (!inner && this.cutter.after(this.kind.boundaryOf(part))) this.cut()
    return this.complete.length > 0
  }

  async store(): Promise<void> {
    for (const parts of this.complete.splice(0)) this.saved.push(await this.kind.save(this.level, parts))
  }

  /** What is left is the last node. */
  async close(): Promise<void> {
    this.cut()
    await this.store()
  }

  private cut(): void {
    if (this.group.length > 0) this.complete.push(this.group)
    this.group = []
  }
}

interface OldNode<Key, Part> {
  parts: Part[]
  /** Its last key. */
  last: Key
}

class LevelEdit<Key, Part> {
  private readonly gone: Key[] = []
  private readonly came: Part[] = []

  constructor(
    private readonly kind: ListKind<Key, Part>,
    private readonly root: NodeRef | undefined,
    private readonly level: number,
  ) {}

  /** The edits of the level above. */
  async run(
    edits: readonly Edit<Key, Part>[],
    replaced?: (before: Part | undefined, now: Part | undefined) => void,
  ): Promise<Edit<Key, Part>[]> {
    for (let at = 0; at < edits.length;) at = await this.runFrom(edits, at, replaced)
    return this.above()
  }

  /** Edits from the node that edit `at` falls into to the next place where old and new ends meet. */
  private async runFrom(
    edits: readonly Edit<Key, Part>[],
    at: number,
    replaced: ((before: Part | undefined, now: Part | undefined) => void) | undefined,
  ): Promise<number> {
    const { kind } = this
    const groups = new Groups(kind, this.level)
    const first = edits[at]
    let node = first && (await this.nodeAt(first.key, false))
    const exchanged = node && this.exchanged(node, edits, at)
    if (node && exchanged && (await this.endsAlone(node, exchanged.next === edits.length))) {
      for (const { before, now } of exchanged.pairs) replaced?.(before, now)
      this.gone.push(node.last)
      this.came.push(await kind.save(this.level, exchanged.parts))
      return exchanged.next
    }
    let next = at
    for (;;) {
      const last = node?.last
      const following = last === undefined ? undefined : await this.nodeAt(last, true)
      const from = next
      if (last === undefined || !following) next = edits.length
      else while (next < edits.length && kind.compare((edits[next] as Edit<Key, Part>).key, last) <= 0) next++
      if (last !== undefined) this.gone.push(last)
      const old = node?.parts ?? []
      const inner = new Set(old.slice(0, -1))
      for (const part of this.merged(old, edits.slice(from, next), replaced)) {
        if (groups.add(part, inner.has(part))) await groups.store()
      }
      if (groups.atEnd) break
      if (!following) {
        await groups.close()
        break
      }
      node = following
    }
    this.came.push(...groups.saved)
    return next
  }

  /**
   * The node with the edits up to its last key, when each puts a part in the place of one that has its key, is no longer, and decides
   * on ends likewise.
   */
  private exchanged(
    { parts: old, last }: OldNode<Key, Part>,
    edits: readonly Edit<Key, Part>[],
    at: number,
  ): { parts: Part[]; pairs: { before: Part; now: Part }[]; next: number } | undefined {
    const { kind } = this
    const parts = [...old]
    const pairs = []
    let next = at
    let index = 0
    for (let edit = edits[at]; edit && kind.compare(edit.key, last) <= 0; edit = edits[++next]) {
      const { key, part: now } = edit
      index = firstIndex(old, (part) => kind.compare(kind.keyOf(part), key) >= 0, index)
      const before = old[index]
      if (before === undefined || now === undefined || kind.compare(kind.keyOf(before), key) !== 0)
        return undefined
      if (kind.bytesOf(now) > kind.bytesOf(before)) return undefined
      if (!kind.boundaryOf(now).equals(kind.boundaryOf(before))) return undefined
      parts[index] = now
      pairs.push({ before, now })
    }
    return next > at ? { parts, pairs, next } : undefined
  }

  /** Whether the node ends by the content of its last part, or with the list; only then when more edits follow it. */
  private async endsAlone({ parts, last }: OldNode<Key, Part>, isLastEdit: boolean): Promise<boolean> {
    const end = parts.at(-1)
    const endsByContent = end !== undefined && isBoundary(this.kind.boundaryOf(end), this.level)
    if (endsByContent && isLastEdit) return true
    const following = await this.nodeAt(last, true)
    return endsByContent ? following !== undefined : following === undefined && isLastEdit
  }

  private merged(
    parts: readonly Part[],
    edits: readonly Edit<Key, Part>[],
    replaced: ((before: Part | undefined, now: Part | undefined) => void) | undefined,
  ): Part[] {
    const out: Part[] = []
    let at = 0
    for (const { key, part } of edits) {
      const end = firstIndex(parts, (old) => this.kind.compare(this.kind.keyOf(old), key) >= 0, at)
      for (; at < end; at++) out.push(parts[at] as Part)
      const next = parts[at]
      const isSame = next !== undefined && this.kind.compare(this.kind.keyOf(next), key) === 0
      const before = isSame ? next : undefined
      if (isSame) at++
      if (part !== undefined) out.push(part)
      replaced?.(before, part)
    }
    for (; at < parts.length; at++) out.push(parts[at] as Part)
    return out
  }

  /** The old node of this level that `key` falls into (or the last one); with `beyond`, the first that ends after it. */
  private async nodeAt(key: Key, beyond: boolean): Promise<OldNode<Key, Part> | undefined> {
    if (!this.root) return undefined
    const { kind } = this
    let start: Key | undefined
    let node = await kind.load(this.root, start)
    while (node.level > this.level) {
      let index = firstIndex(node.parts, (part) => {
        const order = kind.compare(kind.keyOf(part), key)
        return beyond ? order > 0 : order >= 0
      })
      if (index === node.parts.length) {
        if (beyond) return undefined
        index--
      }
      if (index > 0) start = kind.keyOf(node.parts[index - 1] as Part)
      node = await kind.load(kind.refOf(node.parts[index] as Part), start)
    }
    const end = node.parts.at(-1)
    if (end === undefined) return undefined
    const last = kind.keyOf(end)
    return beyond && kind.compare(last, key) <= 0 ? undefined : { parts: node.parts, last }
  }

  private above(): Edit<Key, Part>[] {
    const { kind } = this
    const edits: Edit<Key, Part>[] = []
    let came = 0
    for (const key of this.gone) {
      for (; came < this.came.length; came++) {
        const part = this.came[came] as Part
        if (kind.compare(kind.keyOf(part), key) >= 0) break
        edits.push({ key: kind.keyOf(part), part })
      }
      const part = this.came[came]
      if (part !== undefined && kind.compare(kind.keyOf(part), key) === 0) continue
      edits.push({ key, part: undefined })
    }
    for (; came < this.came.length; came++) {
      const part = this.came[came] as Part
      edits.push({ key: kind.keyOf(part), part })
    }
    return edits
  }
}

/** Index of the first element from `from` on that fits, where all after it fit too; the length when none does. */
function firstIndex<T>(items: readonly T[], fits: (item: T) => boolean, from = 0): number {
  let low = from
  let high = items.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (fits(items[middle] as T)) high = middle
    else low = middle + 1
  }
  return low
}
