/**
 * Heals what a check of every block finds:
 *
 *   1. index     what follows from the rest is written anew (blocks/examine.ts); wrong rows of the chunk index go
 *   2. blocks    each bad one from where it still is whole: its own record behind a damaged header; a partner; the live
 *                file, where that still has the bytes (a pack: all of its files, live-copy.ts); an older copy in the segments. A healed list may show further
 *                bad blocks below it: so again, until nothing more is found
 *   3. heads     signed anew over the table of snapshots, where the head or its list is damaged
 *   4. the rest  what could not be healed is remembered as damaged, so that it counts as not here; files that need it are
 *                read again by the next snapshot, directories compared anew. That makes the same block again where the
 *                content is the same, and heals the older snapshots, too
 *
 * Nothing is deleted: a damaged record stays where it is until another takes its place, and whoever finds it whole after
 * all (a disk that had only hiccuped) may use it. What is put in place of it has been compared with its name.
 */
import { asKithError } from '../base/errors.js'
import type { BlockReader, BlockStore } from '../blocks/block-store.js'
import { stopIfAborted } from '../blocks/examine.js'
import type { Identity } from '../format/keys.js'
import { blockName } from '../format/seal.js'
import {
  type Checked,
  type CheckOptions,
  checkStore,
  type StoreFindings,
  type VolumeFindings,
} from './check.js'
import { fromLiveFile, packsFromLiveFiles } from './live-copy.js'
import { Nodes } from './nodes.js'

export interface RepairOptions extends Omit<CheckOptions, 'wanted'> {
  /** Only tell what could be healed. */
  dryRun: boolean
  /** The plain directory of a volume, as a descriptor that stays open meanwhile. */
  live?: ((id: Buffer) => number | undefined) | undefined
  /** The highest sequence of a volume's head that a partner acknowledged. */
  acknowledged?: ((id: Buffer) => number) | undefined
}

export type Source = 'record' | 'partner' | 'live' | 'copy'

export interface Repaired {
  before: StoreFindings
  /** The state afterwards; on a dry run that before. */
  after: StoreFindings
  /** Blocks healed, or that could be, by where they were found. */
  healed: Record<Source, number>
  /** Rows of the index written anew, heads signed anew. */
  rows: number
  heads: number
  /** Files and directories that the next snapshot reads again. */
  marked: number
}

interface Repairable {
  checked: Checked
  rebuildHead(above: number): Promise<void>
  dropWrongRows(): Promise<number>
  forgetContents(files: readonly bigint[], directories: readonly bigint[]): Promise<void>
}

/** A list below a list below a list ...; each round reaches one deeper. */
const maxRounds = 16

export async function repairStore(
  blocks: BlockStore,
  identity: Identity,
  volumes: readonly Repairable[],
  options: RepairOptions,
): Promise<Repaired> {
  const { dryRun, signal } = options
  const index = dryRun ? undefined : await blocks.examine(true, { signal })
  const before = await checkStore(blocks, identity, volumes, { ...options, wanted: () => true })
  if (index) before.index.problems = index.problems
  const healer = new Healer(blocks, volumes, options)
  // A partner may have them, so that they count as away and not as lost; but they were here, and are to be here again.
  const lost = (index?.nowhere ?? []).map((name) => [name.toString('latin1'), 'missing'] as const)
  let after = before
  for (let round = 0; round < maxRounds; round++) {
    const bad = round === 0 ? new Map([...lost, ...after.bad]) : after.bad
    const healed = await healer.heal({ ...after, bad })
    if (dryRun || healed === 0) break
    after = await checkStore(blocks, identity, volumes, options)
  }
  const { healed } = healer
  const repaired: Repaired = { before, after, healed, rows: index?.fixed ?? 0, heads: 0, marked: 0 }
  if (dryRun) return repaired
  repaired.heads = await rebuildHeads(volumes, after, options)
  await blocks.rememberDamaged([...after.bad.keys()].map((id) => Buffer.from(id, 'latin1')))
  for (const found of after.volumes) repaired.marked += await mark(volumes, found)
  for (const volume of volumes) repaired.rows += await volume.dropWrongRows()
  repaired.rows += (await blocks.examine(true, { signal })).fixed
  repaired.after = { ...(await checkStore(blocks, identity, volumes, options)), read: before.read }
  return repaired
}

async function rebuildHeads(
  volumes: readonly Repairable[],
  { volumes: findings }: StoreFindings,
  { acknowledged }: RepairOptions,
): Promise<number> {
  let heads = 0
  for (const { id, headless } of findings) {
    if (!headless) continue
    await volumeOf(volumes, id)?.rebuildHead(acknowledged?.(id) ?? 0)
    heads++
  }
  return heads
}

async function mark(volumes: readonly Repairable[], found: VolumeFindings): Promise<number> {
  const files = new Set<bigint>()
  const directories = new Set(found.lostDirectories)
  for (const { entry } of found.hurt.values()) (entry.type === 'file' ? files : directories).add(entry.ino)
  if (files.size + directories.size > 0)
    await volumeOf(volumes, found.id)?.forgetContents([...files], [...directories])
  return files.size + directories.size
}

function volumeOf(volumes: readonly Repairable[], id: Buffer): Repairable | undefined {
  return volumes.find(({ checked }) => checked.id.equals(id))
}

class Healer {
  readonly healed: Record<Source, number> = { record: 0, partner: 0, live: 0, copy: 0 }
  private readonly done = new Set<string>()

  constructor(
    private readonly blocks: BlockStore,
    private readonly volumes: readonly Repairable[],
    private readonly options: RepairOptions,
  ) {}

  /** @returns how many were healed, durably */
  async heal({ bad, volumes }: StoreFindings): Promise<number> {
    const { signal, remote, dryRun } = this.options
    const start = this.done.size
    const left = () =>
      [...bad.keys()].filter((id) => !this.done.has(id)).map((id) => Buffer.from(id, 'latin1'))
    await this.blocks.salvage(left(), false, (name, bytes) => this.take('record', name, bytes), signal)
    if (remote) for (const name of left()) await this.fetch(remote, name)
    for (const found of volumes) await this.fromFiles(found, bad)
    const rest = left()
    if (rest.length > 0)
      await this.blocks.salvage(rest, true, (name, bytes) => this.take('copy', name, bytes), signal)
    if (!dryRun) await this.blocks.commit()
    return this.done.size - start
  }

  private async fetch(remote: BlockReader, name: Buffer): Promise<void> {
    stopIfAborted(this.options.signal)
    try {
      const bytes = await remote.get(name)
      if (bytes) await this.take('partner', name, bytes)
    } catch (error) {
      // Whatever keeps a partner from giving it, there are other ways.
      if (asKithError(error).code === 'noSpace') throw error
    }
  }

  private async fromFiles({ id, hurt }: VolumeFindings, bad: StoreFindings['bad']): Promise<void> {
    const checked = volumeOf(this.volumes, id)?.checked
    const rootFd = this.options.live?.(id)
    if (!checked || rootFd === undefined) return
    const { convergence, node } = checked.keys
    const from = { nodes: new Nodes(this.blocks, node), convergence }
    const wanted = (name: Buffer) =>
      bad.has(name.toString('latin1')) && !this.done.has(name.toString('latin1'))
    const take = (name: Buffer, bytes: Buffer) => this.take('live', name, bytes)
    for (const { path, entry } of hurt.values()) {
      stopIfAborted(this.options.signal)
      if (entry.type !== 'file') continue
      try {
        await fromLiveFile(from, rootFd, { path, entry }, wanted, take)
      } catch (error) {
        // Its own list is not readable.
        if (asKithError(error).code !== 'damaged') throw error
      }
    }
    await packsFromLiveFiles(convergence, rootFd, [...hurt.values()], wanted, take)
  }

  private async take(source: Source, name: Buffer, bytes: Buffer): Promise<void> {
    const id = name.toString('latin1')
    if (this.done.has(id) || !blockName(bytes).equals(name)) return
    if (!this.options.dryRun) {
      // Evicted, and lost by those who had it: it is to be offered to all of them anew.
      if (this.blocks.has(name) && !this.blocks.isHere(name)) await this.blocks.rememberDamaged([name])
      await this.blocks.put(Buffer.from(name), bytes)
    }
    this.done.add(id)
    this.healed[source]++
  }
}
