/**
 * A place in a directory's list that moves forward, one item at a time. What stands in front is an entry, or a node of
 * the list that is not opened yet: who compares several lists passes over nodes that are the same in all of them, so that
 * the cost follows the difference and not the size.
 */
import { setImmediate } from 'node:timers/promises'
import type { DirectoryChild, DirectoryNode, Entry } from '../format/node.js'
import type { NodeRef } from '../format/seal.js'
import type { Nodes } from './nodes.js'
import { directoryChild } from './tree-walk.js'

/** Nodes opened between two pauses: a long walk through cached nodes must not keep the process from all else. */
const nodesBetweenPauses = 16

export type Front =
  | { kind: 'entry'; level: -1; entry: Entry }
  /** `level` is that of the node itself: 0 for a leaf */
  | { kind: 'node'; level: number; child: DirectoryChild }

export class ListCursor {
  private readonly stack: { node: DirectoryNode; at: number }[] = []
  private opened = 0

  private constructor(
    private readonly nodes: Nodes,
    node: DirectoryNode,
  ) {
    this.push(node)
  }

  static async open(nodes: Nodes, ref: NodeRef): Promise<ListCursor> {
    return new ListCursor(nodes, await nodes.directory(ref))
  }

  /** What comes next; undefined at the end. */
  get front(): Front | undefined {
    const top = this.stack.at(-1)
    if (!top) return undefined
    const { node, at } = top
    if ('entries' in node) return { kind: 'entry', level: -1, entry: node.entries[at] as Entry }
    return { kind: 'node', level: node.level - 1, child: node.children[at] as DirectoryChild }
  }

  /** Passes over what stands in front. A node that was entered has been passed over in the node above. */
  skip(): void {
    const top = this.stack.at(-1)
    if (top) top.at++
    for (let last = this.stack.at(-1); last && last.at >= lengthOf(last.node); last = this.stack.at(-1))
      this.stack.pop()
  }

  /** Replaces the node in front by what is in it. */
  async enter(): Promise<void> {
    const { front } = this
    if (front?.kind !== 'node') return
    const node = await directoryChild(this.nodes, front.level + 1, front.child)
    this.skip()
    this.push(node)
    if (++this.opened % nodesBetweenPauses === 0) await setImmediate()
  }

  /** A cursor over what is in the node in front, by itself. */
  async below(): Promise<ListCursor | undefined> {
    const { front } = this
    if (front?.kind !== 'node') return undefined
    return new ListCursor(this.nodes, await directoryChild(this.nodes, front.level + 1, front.child))
  }

  private push(node: DirectoryNode): void {
    if (lengthOf(node) > 0) this.stack.push({ node, at: 0 })
  }
}

function lengthOf(node: DirectoryNode): number {
  return 'entries' in node ? node.entries.length : node.children.length
}
