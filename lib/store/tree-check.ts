/**
 * A walk through everything that snapshots reach, each list node once however many snapshots share it. What stands below
 * a node that was met before is not read again, but counts for whoever reaches it: so each snapshot is told whether
 * anything below it is hurt. Memory: some hundred bytes for each node, none for files.
 */
import { KithError } from '../base/errors.js'
import { nameText } from '../base/path-text.js'
import { damaged } from '../format/bytes.js'
import {
  directoryNodeSpan,
  fileNodeBytes,
  type DirectoryChild,
  type DirectoryEntry,
  type Entry,
  type Extent,
  type FileEntry,
} from '../format/node.js'
import type { ChunkRef, NodeRef } from '../format/seal.js'
import { stopIfAborted } from '../blocks/examine.js'
import type { Nodes } from './nodes.js'

/** A file or directory met on the walk. */
export interface Met {
  /** from the snapshot's root, `/` between names, each as nameText writes it */
  path: string
  entry: FileEntry | DirectoryEntry
}

/** What the walk asks and tells. Each node and each chunk of a node is asked for once. */
export interface Visitor {
  /** Before the node is read. True: it is bad, whether it can be read or not. */
  node(ref: NodeRef): boolean
  chunk(ref: ChunkRef): boolean
  /** It cannot be read, or is not what its parent says. */
  unreadable(ref: NodeRef): void
  /** A file with a bad chunk or list node, or a directory with a bad list node. */
  hurt(met: Met): void
  /** Awaited before each node. */
  pause?(): Promise<void>
}

export class TreeCheck {
  /** Nodes met, and whether anything at or below them is hurt. */
  private readonly met = new Map<string, boolean>()
  entries = 0

  constructor(
    private readonly nodes: Nodes,
    private readonly visitor: Visitor,
    private readonly signal: AbortSignal | undefined,
  ) {}

  get nodesMet(): number {
    return this.met.size
  }

  /** @returns whether anything of the directory or below is hurt */
  async directory(entry: DirectoryEntry, path: string): Promise<boolean> {
    return this.directoryNode(entry.node, { path: path === '' ? '.' : path, entry }, path, undefined)
  }

  private async directoryNode(
    ref: NodeRef,
    of: Met,
    path: string,
    said: { level: number; child: DirectoryChild } | undefined,
  ): Promise<boolean> {
    return this.once(ref, of, async () => {
      const node = await this.nodes.directory(ref)
      const { entries, last } = directoryNodeSpan(node)
      if (
        said &&
        (node.level !== said.level || entries !== said.child.entries || !last?.equals(said.child.last))
      )
        throw damaged('directory node', 'it is not what its parent says')
      let hurt = false
      if ('entries' in node) {
        for (const entry of node.entries) if (await this.entry(entry, path)) hurt = true
      } else {
        for (const child of node.children) {
          const below = { level: node.level - 1, child }
          if (await this.directoryNode(child.node, of, path, below)) hurt = true
        }
      }
      return hurt
    })
  }

  private async entry(entry: Entry, parent: string): Promise<boolean> {
    this.entries++
    if (entry.type !== 'directory' && entry.type !== 'file') return false
    const name = nameText(entry.name)
    const path = parent === '' ? name : `${parent}/${name}`
    return entry.type === 'directory' ? this.directory(entry, path) : this.file(entry, path)
  }

  private async file(entry: FileEntry, path: string): Promise<boolean> {
    const { content } = entry
    const of = { path, entry }
    if (content.kind === 'inline') return false
    const hurt =
      content.kind === 'list'
        ? await this.fileNode(content.node, of, { bytes: entry.size })
        : this.extents(content.extents)
    if (hurt) this.visitor.hurt(of)
    return hurt
  }

  private extents(extents: readonly Extent[]): boolean {
    let hurt = false
    for (const extent of extents) if (extent.kind !== 'hole' && this.visitor.chunk(extent.chunk)) hurt = true
    return hurt
  }

  private async fileNode(ref: NodeRef, of: Met, said: { bytes: number; level?: number }): Promise<boolean> {
    return this.once(ref, of, async () => {
      const node = await this.nodes.file(ref)
      if (fileNodeBytes(node) !== said.bytes || (said.level !== undefined && node.level !== said.level))
        throw damaged('file node', 'it is not what its parent says')
      if ('extents' in node) return this.extents(node.extents)
      let hurt = false
      for (const child of node.children) {
        const below = { bytes: child.bytes, level: node.level - 1 }
        if (await this.fileNode(child.node, of, below)) hurt = true
      }
      return hurt
    })
  }

  private async once(ref: NodeRef, of: Met, below: () => Promise<boolean>): Promise<boolean> {
    const id = ref.name.toString('latin1')
    const known = this.met.get(id)
    if (known !== undefined) {
      // What is below was told where it was met first; the list itself concerns every directory that has it.
      if (known && this.visitor.node(ref)) this.tell(of)
      return known
    }
    stopIfAborted(this.signal)
    await this.visitor.pause?.()
    let hurt = this.visitor.node(ref)
    if (hurt) this.tell(of)
    try {
      if (await below()) hurt = true
    } catch (error) {
      if (!(error instanceof KithError) || error.code !== 'damaged') throw error
      this.visitor.unreadable(ref)
      this.tell(of)
      hurt = true
    }
    this.met.set(id, hurt)
    return hurt
  }

  /** Files are told when all of their lists are through. */
  private tell(of: Met): void {
    if (of.entry.type === 'directory') this.visitor.hurt(of)
  }
}
