/**
 * Whether everything that the snapshots of this store need is there, and is what it should be.
 *
 *   1. blocks    the index against the segments; with `wanted`, the bytes of blocks against their names (blocks/examine.ts)
 *   2. volumes   head, snapshot list and tables of each volume; every node that its snapshots reach is opened, every chunk
 *                looked up. A block that is not here is asked of partners; of one that was evicted, those who are not on line
 *                are believed what they acknowledged
 *   3. names     when something is bad: a second walk, which finds the files and snapshots that it hurts
 *
 * Nothing is changed, but that blocks found damaged count as not here from then on, so that the next put replaces them.
 *
 * Beside snapshots and removals: what is bad is what the snapshots of the end still reach. Blocks that went with a
 * snapshot meanwhile are reached by none of them, and are not told.
 */
import { KithError } from '../base/errors.js'
import type { BlockReader, BlockStore } from '../blocks/block-store.js'
import { damagedOf, stopIfAborted, type Examined, type Verified, verifyBlocks } from '../blocks/examine.js'
import type { Table } from '../blocks/database.js'
import { decodeHead, openOwnerState, type Head } from '../format/head.js'
import { unwrapVolumeKeys, type Identity, type VolumeKeys } from '../format/keys.js'
import type { NodeRef } from '../format/seal.js'
import type { SnapshotNode, SnapshotRecord } from '../format/snapshot-list.js'
import { sameRecords } from './mend.js'
import { Nodes } from './nodes.js'
import { isSoundPack, isSoundPart } from './parts.js'
import { infoOf } from './snapshot-info.js'
import type { VolumeState } from './state.js'
import { type Met, TreeCheck, type Visitor } from './tree-check.js'

/** A volume, as it is checked. */
export interface Checked {
  id: Buffer
  dir: string
  keys: VolumeKeys
  state: VolumeState
  /** The newest head as it is stored. */
  head: () => Buffer | undefined
}

export interface CheckOptions {
  /** Which blocks to read; none unless given. */
  wanted?: ((name: Buffer) => boolean) | undefined
  /** Where blocks come from that are not here; nowhere unless given. */
  remote?: BlockReader | undefined
  /** For each name, whether somebody else has the block. */
  held?: ((names: Buffer[]) => Promise<boolean[]>) | undefined
  /** Whether a partner that cannot be asked now acknowledged the block. */
  believed?: ((sequence: number, name: Buffer) => boolean) | undefined
  signal?: AbortSignal | undefined
  progress?: ((stage: 'index' | 'data' | 'snapshots', done: number, total: number) => void) | undefined
}

/** damaged: it is here and wrong. missing: it is neither here nor, as far as could be asked, anywhere else. */
export type Wound = 'damaged' | 'missing'

export interface VolumeFindings {
  id: Buffer
  dir: string
  snapshots: number
  /** list nodes opened, and blocks that only partners have */
  nodes: number
  away: number
  problems: string[]
  /** the head is missing or damaged, or its list of snapshots is */
  headless: boolean
  /** inodes of known directories whose lists are not here */
  lostDirectories: bigint[]
  /** files and directories that need a bad block, each once for each state that it has had */
  hurt: Map<string, Met>
  /** names of the snapshots that do */
  hurtSnapshots: string[]
}

export interface StoreFindings {
  index: Examined
  read: Verified | undefined
  volumes: VolumeFindings[]
  /** by name, as latin1 */
  bad: Map<string, Wound>
  /** damaged blocks that no snapshot needs, as far as snapshots can be read */
  unused: number
}

const askedAtOnce = 1024
const rowsAtOnce = 2000

export async function checkStore(
  blocks: BlockStore,
  identity: Identity,
  volumes: readonly { checked: Checked }[],
  options: CheckOptions = {},
): Promise<StoreFindings> {
  const { signal, wanted, progress } = options
  const bad = new Map<string, Wound>()
  const note = (names: readonly Buffer[]) => {
    for (const name of names) bad.set(name.toString('latin1'), 'damaged')
  }
  const index = await blocks.examine(false, {
    signal,
    progress: (done, all) => progress?.('index', done, all),
  })
  note(index.damaged)
  note(await damagedOf(blocks, blocks.knownDamaged))
  const read =
    wanted &&
    (await verifyBlocks(blocks, wanted, { signal, progress: (done, all) => progress?.('data', done, all) }))
  note(read?.damaged ?? [])
  const checks = volumes.map(({ checked }) => new VolumeCheck(checked, blocks, identity, bad, options))
  const findings: VolumeFindings[] = []
  for (const check of checks) findings.push(await check.run())
  const needed = new Set<string>()
  if (bad.size > 0) for (const check of checks) await check.attribute(needed)
  for (const [name, wound] of bad)
    if (!needed.has(name) && (wound === 'missing' || blocks.remembersDamaged(Buffer.from(name, 'latin1'))))
      bad.delete(name)
  return {
    index,
    read,
    volumes: findings,
    bad,
    unused: [...bad.keys()].filter((name) => !needed.has(name)).length,
  }
}

/** Blocks from here; what is damaged here is noted, and read from elsewhere, so that the walk goes on below it. */
class WitnessReader implements BlockReader {
  constructor(
    private readonly local: BlockStore,
    private readonly remote: BlockReader | undefined,
    private readonly damaged: (name: Buffer) => void,
    private readonly away: (name: Buffer) => void,
  ) {}

  async get(name: Buffer): Promise<Buffer | undefined> {
    try {
      const here = await this.local.get(name)
      if (here) return here
    } catch (error) {
      if (!(error instanceof KithError) || error.code !== 'damaged') throw error
      this.damaged(Buffer.from(name))
      return this.elsewhere(name)
    }
    const there = await this.elsewhere(name)
    if (there) this.away(name)
    return there
  }

  private async elsewhere(name: Buffer): Promise<Buffer | undefined> {
    try {
      return await this.remote?.get(name)
    } catch (error) {
      if (error instanceof KithError && ['damaged', 'noPartners', 'timeout'].includes(error.code))
        return undefined
      throw error
    }
  }
}

class VolumeCheck {
  private readonly nodes: Nodes
  private readonly found: VolumeFindings
  private absent: Buffer[] = []
  /** Blocks that others have, by 48 bits of their names. */
  private readonly away = new Set<number>()

  constructor(
    private readonly volume: Checked,
    private readonly blocks: BlockStore,
    private readonly identity: Identity,
    private readonly bad: Map<string, Wound>,
    private readonly options: CheckOptions,
  ) {
    const { id, dir, keys } = volume
    const counts = { snapshots: 0, nodes: 0, away: 0 }
    const lists = { problems: [], lostDirectories: [], hurtSnapshots: [] }
    this.found = { id, dir, ...counts, ...lists, headless: false, hurt: new Map() }
    const reader = new WitnessReader(
      blocks,
      options.remote,
      (name) => this.bad.set(name.toString('latin1'), 'damaged'),
      (name) => this.away.add(short(name)),
    )
    this.nodes = new Nodes(reader, keys.node)
  }

  async run(): Promise<VolumeFindings> {
    const { found, options } = this
    // Both within one turn: they change together.
    const head = this.head()
    const rows = this.rows()
    found.snapshots = rows.length
    if (head) await this.compareList(head.snapshots, rows)
    else if (rows.length > 0) this.headless('there is no good head')
    const visitor: Visitor = {
      node: () => false,
      chunk: (ref) => {
        const size = this.blocks.size(ref.name)
        if (size === undefined || !this.blocks.isHere(ref.name)) this.absent.push(Buffer.from(ref.name))
        else if (size !== ref.sealedBytes) this.bad.set(ref.name.toString('latin1'), 'damaged')
        return false
      },
      unreadable: (ref) => this.unreadable(ref),
      hurt: () => undefined,
      pause: () => this.askIfMany(),
    }
    const walk = new TreeCheck(this.nodes, visitor, options.signal)
    for (const [i, record] of rows.entries()) {
      options.progress?.('snapshots', i, rows.length)
      await walk.directory(record.root, '')
      await this.ask()
    }
    options.progress?.('snapshots', rows.length, rows.length)
    found.nodes += walk.nodesMet
    found.away = this.away.size
    await this.tables()
    return found
  }

  /** Which files and snapshots need what is bad. @param needed gets the bad blocks that were met */
  async attribute(needed: Set<string>): Promise<void> {
    const isBad = ({ name }: { name: Buffer }) => {
      const id = name.toString('latin1')
      if (!this.bad.has(id)) return false
      needed.add(id)
      return true
    }
    const walk = new TreeCheck(
      this.nodes,
      {
        node: isBad,
        chunk: isBad,
        unreadable: isBad,
        hurt: (met) => void this.found.hurt.set(`${met.path}/${met.entry.ino}/${met.entry.mtimeNs}`, met),
      },
      this.options.signal,
    )
    const rows = this.rows()
    for (const record of rows)
      if (await walk.directory(record.root, '')) this.found.hurtSnapshots.push(infoOf(record).name)
    const head = this.head()
    if (head) for (const ref of await this.listNodes(head.snapshots, undefined, [])) isBad(ref)
  }

  /** The head, when it is good in all its parts; else a problem is noted. */
  private head(): Head | undefined {
    const { volume, identity, found } = this
    const bytes = volume.head()
    if (!bytes) return undefined
    try {
      const head = decodeHead(bytes)
      if (!head.owner.equals(identity.id) || !head.volumeId.equals(volume.id))
        throw new KithError('damaged', 'it is of another volume')
      const keys = unwrapVolumeKeys(identity.kek, identity.id, volume.id, head.wrappedKeys)
      if (!keys.node.equals(volume.keys.node)) throw new KithError('damaged', 'it holds other keys')
      openOwnerState(identity.kek, identity.id, volume.id, head.sealedState)
      return head
    } catch (error) {
      note(found.problems, `the head is damaged: ${messageOf(error)}`)
      return undefined
    }
  }

  private rows(): SnapshotRecord[] {
    try {
      return [...this.volume.state.snapshots.range()].map(({ value }) => value)
    } catch (error) {
      note(this.found.problems, `the table of snapshots is damaged: ${messageOf(error)}`)
      return []
    }
  }

  /** The snapshot list that the head names says the same as the table. */
  private async compareList(root: NodeRef, rows: readonly SnapshotRecord[]): Promise<void> {
    const records: SnapshotRecord[] = []
    const nodes = await this.listNodes(root, undefined, records)
    this.found.nodes += nodes.length
    if (nodes.some(({ name }) => this.bad.has(name.toString('latin1')))) {
      this.headless('the list of snapshots is damaged')
      return
    }
    if (!sameRecords(rows, records))
      this.found.problems.push(
        'the table of snapshots is not their list: the next start of the daemon puts it right',
      )
  }

  private headless(why: string): void {
    this.found.headless = true
    this.found.problems.push(`${why}: partners and recovery rely on it`)
  }

  private async listNodes(
    ref: NodeRef,
    level: number | undefined,
    records: SnapshotRecord[],
  ): Promise<NodeRef[]> {
    let node: SnapshotNode
    try {
      node = await this.nodes.snapshots(ref)
      if (level !== undefined && node.level !== level)
        throw new KithError('damaged', 'a snapshots node is not what its parent says')
    } catch (error) {
      if (!(error instanceof KithError) || error.code !== 'damaged') throw error
      this.unreadable(ref)
      return [ref]
    }
    if ('records' in node) {
      records.push(...node.records)
      return [ref]
    }
    const refs = [ref]
    for (const child of node.children)
      refs.push(...(await this.listNodes(child.node, node.level - 1, records)))
    return refs
  }

  private unreadable({ name }: NodeRef): void {
    const id = name.toString('latin1')
    if (!this.bad.has(id)) this.bad.set(id, this.blocks.isHere(name) ? 'damaged' : 'missing')
  }

  private async askIfMany(): Promise<void> {
    if (this.absent.length >= askedAtOnce) await this.ask()
  }

  /** Who has what is not here? */
  private async ask(): Promise<void> {
    const { options, bad, away } = this
    const names = this.absent.filter(
      (name) => !bad.has(name.toString('latin1')) && !away.has(short(name)) && !this.blocks.isHere(name),
    )
    this.absent = []
    for (let i = 0; i < names.length; i += askedAtOnce) {
      const some = names.slice(i, i + askedAtOnce)
      const held = (await options.held?.(some)) ?? []
      some.forEach((name, at) => {
        if (held[at] === true || this.isBelieved(name)) this.away.add(short(name))
        else bad.set(name.toString('latin1'), 'missing')
      })
    }
  }

  private isBelieved(name: Buffer): boolean {
    const sequence = this.blocks.has(name) ? this.blocks.sequence(name) : undefined
    return sequence !== undefined && this.options.believed?.(sequence, name) === true
  }

  /** Rows that can be read, and that say what the block store says. */
  private async tables(): Promise<void> {
    const { state } = this.volume
    const { problems } = this.found
    let wrong = 0
    await this.table('chunks', state.chunks, (row) => {
      const size = this.blocks.size(row.name)
      if (size !== undefined && size !== row.sealedBytes) wrong++
    })
    await this.table('packs', state.packs, (row, id) => {
      const size = this.blocks.size(row.name)
      if (!isSoundPack(id, row) || (size !== undefined && size !== row.sealedBytes)) wrong++
    })
    await this.table('parts', state.parts, (row, id) => {
      if (!isSoundPart(id, row)) wrong++
    })
    await this.table('directories', state.directories, ({ node }, ino) => {
      if (this.blocks.size(node.name) !== node.sealedBytes) this.found.lostDirectories.push(ino)
    })
    await this.table('nodes', state.made)
    await this.table('nodes', state.nodes)
    await this.table('files', state.files)
    await this.table('dirty', state.dirty)
    if (wrong > 0) problems.push(`the chunk index has ${wrong} wrong rows`)
    const lost = this.found.lostDirectories.length
    if (lost > 0) problems.push(`the lists of ${lost} directories are not here: the next snapshot needs them`)
  }

  private async table<K, V>(
    name: string,
    table: Table<K, V>,
    each: (value: V, key: K) => void = () => undefined,
  ): Promise<void> {
    try {
      for await (const batch of table.batches(rowsAtOnce)) {
        stopIfAborted(this.options.signal)
        for (const { key, value } of batch) each(value, key)
      }
    } catch (error) {
      if (error instanceof KithError && error.code === 'cancelled') throw error
      this.found.problems.push(`the table of ${name} is damaged: ${messageOf(error)}`)
    }
  }
}

function short(name: Buffer): number {
  return name.readUIntBE(0, 6)
}

function note(problems: string[], problem: string): void {
  if (!problems.includes(problem)) problems.push(problem)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
