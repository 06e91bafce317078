import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import type { DirectoryNode, Entry } from '../../lib/format/node.js'
import type { NodeRef } from '../../lib/format/seal.js'
import { hash } from '../../lib/format/hash.js'
import { decodeDirectoryNode, encodeDirectoryNode } from '../../lib/format/node.js'
import { type DirectoryPart, directoryList } from '../../lib/store/list-kinds.js'
import { editList, type Edit } from '../../lib/store/lists.js'
import type { Intake } from '../../lib/store/intake.js'
import type { Nodes } from '../../lib/store/nodes.js'

t.setTimeout(280_000)

/** Nodes in a map, counted: what the procedure reads and writes is all that is looked at here. */
class Shelf {
  readonly nodes = new Map<string, Buffer>()
  loads = 0
  saves = 0

  access() {
    const nodes = {
      directory: async (ref: NodeRef): Promise<DirectoryNode> => {
        this.loads++
        return decodeDirectoryNode(this.nodes.get(ref.name.toString('hex')) as Buffer)
      },
      remember: () => undefined,
    }
    const intake = {
      addNode: async (plain: Buffer): Promise<NodeRef> => {
        this.saves++
        const name = hash('kith block', plain)
        this.nodes.set(name.toString('hex'), plain)
        return { name, sealedBytes: 1000 }
      },
    }
    return { nodes: nodes as unknown as Nodes, intake: intake as unknown as Intake }
  }

  entries(ref: NodeRef, level?: number): Entry[] {
    const node = decodeDirectoryNode(this.nodes.get(ref.name.toString('hex')) as Buffer)
    if (level !== undefined && node.level !== level) throw new Error('levels go down by one')
    if ('entries' in node) return node.entries
    return node.children.flatMap((child) => {
      const below = this.entries(child.node, node.level - 1)
      if (below.length !== child.entries || !below.at(-1)?.name.equals(child.last)) throw new Error('span')
      return below
    })
  }
}

function entry(name: string, size: number): Entry {
  const none = { uid: 0, gid: 0, mtimeNs: 0n, ctimeNs: 0n, nlink: 1, xattrs: [], busy: false }
  return { ...none, name: Buffer.from(name), type: 'fifo', mode: 0o600, ino: BigInt(size), size }
}

function put(name: string, size: number): Edit<Buffer, DirectoryPart> {
  return { key: Buffer.from(name), part: entry(name, size) }
}

const byKey = (a: { key: Buffer }, b: { key: Buffer }) => Buffer.compare(a.key, b.key)

t.test('random edits of lists from empty to many levels', async (t) => {
  const next = seeded(7)
  for (const scale of [1, 30, 1000, 5000]) {
    const shelf = new Shelf()
    const kind = directoryList(shelf.access())
    const model = new Map<string, number>()
    let root: NodeRef | undefined
    for (let round = 0; round < 16; round++) {
      const edits = new Map<string, Edit<Buffer, DirectoryPart>>()
      const count = next() % (round % 5 === 0 ? scale : 12)
      for (let i = 0; i <= count; i++) {
        const name = `n${next() % (scale * 3)}`
        if (next() % 4 === 0) {
          edits.set(name, { key: Buffer.from(name), part: undefined })
          model.delete(name)
        } else {
          const size = next() % 1000
          edits.set(name, put(name, size))
          model.set(name, size)
        }
      }
      if (round === 12) {
        for (const name of model.keys()) edits.set(name, { key: Buffer.from(name), part: undefined })
        model.clear()
      }
      root = await editList(kind, root, [...edits.values()].sort(byKey))
      const have = shelf.entries(root).map(({ name, size }) => `${name.toString()}=${size}`)
      const want = [...model].map(([name, size]) => `${name}=${size}`)
      if (
        have.join() !==
        want
          .sort((a, b) =>
            Buffer.compare(Buffer.from(a.split('=')[0] ?? ''), Buffer.from(b.split('=')[0] ?? '')),
          )
          .join()
      ) {
        t.fail(`round ${round} at scale ${scale}`)
        return
      }
    }
    t.pass(`scale ${scale}`)
  }
})

t.test('the order of edits does not show in the list', async (t) => {
  const shelf = new Shelf()
  const kind = directoryList(shelf.access())
  const all = Array.from({ length: 5000 }, (_, i) => put(`file ${i}`, i)).sort(byKey)
  const once = await editList(kind, undefined, all)
  const odd = await editList(
    kind,
    undefined,
    all.filter((_, i) => i % 2 === 1),
  )
  const both = await editList(
    kind,
    odd,
    all.filter((_, i) => i % 2 === 0),
  )
  t.same(both, once)
})

t.test('one change in 50,000 names reads and writes a few nodes', async (t) => {
  const shelf = new Shelf()
  const kind = directoryList(shelf.access())
  const all = Array.from({ length: 50_000 }, (_, i) => put(`file ${String(i).padStart(7, '0')}`, i))
  const root = await editList(kind, undefined, all)
  shelf.loads = 0
  shelf.saves = 0
  let told = 0
  const changed = await editList(kind, root, [put('file 0012345', 1)], (before, now) => {
    told++
    t.equal(before && 'size' in before ? before.size : undefined, 12_345)
    t.equal(now && 'size' in now ? now.size : undefined, 1)
  })
  t.equal(told, 1)
  t.notSame(changed, root)
  t.ok(shelf.saves <= 6, `${shelf.saves} nodes written`)
  t.ok(shelf.loads <= 40, `${shelf.loads} nodes read`)
  const back = await editList(kind, changed, [put('file 0012345', 12_345)])
  t.same(back, root, 'and back')
})

t.test('an empty list is an empty leaf', async (t) => {
  const shelf = new Shelf()
  const kind = directoryList(shelf.access())
  const empty = await editList(kind, undefined, [])
  t.same(shelf.entries(empty), [])
  t.same(
    shelf.nodes.get(empty.name.toString('hex')),
    encodeDirectoryNode({ kind: 'directory', level: 0, entries: [] }),
  )
  const one = await editList(kind, empty, [put('a', 1)])
  t.equal(shelf.entries(one).length, 1)
  t.same(await editList(kind, one, [{ key: Buffer.from('a'), part: undefined }]), empty)
})
