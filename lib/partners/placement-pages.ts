/**
 * The stripe table as every partner has it: pages, and the placement head that names their root (format/stripe.ts). With the
 * phrase alone, and any partner, a new machine knows again which partners to ask for what.
 *
 *     placement pages    name 32 -> the sealed page
 *     placement leaves   number u64 of its first stripe -> number u64 of the last | name 32 of the page
 *     placement held     partner 32 | name of a page 32 -> 1: acknowledged
 *     placement notes    `head` -> the newest placement head; `adopting` -> 1 while the pages are read after a recovery; `adopted` ->
 *                        when they were, ms since 1970, u64; `policy` -> the policy that came with them, until the owner's setting
 *                        is known to be one
 *
 * A page of the lowest level has stripes with numbers in a row; one that changed, came or went makes its page anew, and
 * the pages above. Pages and head become durable in one transaction, so that the head never names a page that is not here.
 * A partner lets go of old pages only after it acknowledged the newest head.
 *
 * While a recovery takes the account over, page by page, nothing may follow from a part of it: no head, no repair. After a
 * crash in the middle that stays so until the account is taken over whole.
 */
import { type Database, encodings, type Table } from '../blocks/database.js'
import type { BlockReader } from '../blocks/block-store.js'
import type { Clock } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import { decodeHead, encodeHead, sealOwnerState, openOwnerState, type Head } from '../format/head.js'
import { newVolumeKeys, wrapVolumeKeys, type Identity } from '../format/keys.js'
import { openNode, sealNode, type NodeRef } from '../format/seal.js'
import {
  bytesInPage,
  decodePage,
  encodePage,
  pageBytes,
  pageEntries,
  placementKey,
  placementVolume,
  type NumberedStripe,
  type Page,
} from '../format/stripe.js'
import type { Stripes } from './stripes.js'

const present = Buffer.from([1])
const under = (prefix: Buffer) => ({ start: prefix, end: Buffer.concat([prefix, Buffer.alloc(40, 0xff)]) })
const stripesAtOnce = 64

interface Leaf {
  first: number
  last: number
  ref: NodeRef
}

export class PlacementPages {
  private readonly pages: Table<Buffer, Buffer>
  private readonly leaves: Table<number, Buffer>
  private readonly heldRows: Table<Buffer, Buffer>
  private readonly notes: Table<string, Buffer>
  /** in place of a volume's id */
  readonly volume: Buffer
  private readonly key: Buffer
  private newest: { head: Buffer; sequence: number } | undefined

  constructor(
    private readonly db: Database,
    private readonly stripes: Stripes,
    private readonly identity: Identity,
    private readonly clock: Clock,
  ) {
    this.pages = db.table('placement pages', encodings.bytes, encodings.bytes)
    this.leaves = db.table('placement leaves', encodings.number, encodings.bytes)
    this.heldRows = db.table('placement held', encodings.bytes, encodings.bytes)
    this.notes = db.table('placement notes', encodings.text, encodings.bytes)
    this.volume = placementVolume(identity.id)
    this.key = placementKey(identity.kek)
  }

  /** The newest placement head; undefined when there never was a stripe. */
  get head(): Buffer | undefined {
    return this.notes.get('head')
  }

  /** Of the newest head; 0 when there is none. */
  get sequence(): number {
    const { head } = this
    if (head && this.newest?.head.equals(head) !== true)
      this.newest = { head, sequence: decodeHead(head).sequence }
    return this.newest?.sequence ?? 0
  }

  isPage(name: Buffer): boolean {
    return this.pages.has(name)
  }

  get(name: Buffer): Buffer | undefined {
    return this.pages.get(name)
  }

  /** Pages that the partner has not acknowledged. */
  pending(partner: Buffer, limit: number): Buffer[] {
    const found: Buffer[] = []
    for (const name of this.pages.keysOf()) {
      if (found.length >= limit) break
      if (!this.heldRows.has(Buffer.concat([partner, name]))) found.push(Buffer.from(name))
    }
    return found
  }

  isHeld(partner: Buffer, name: Buffer): boolean {
    return this.heldRows.has(Buffer.concat([partner, name]))
  }

  heldBy(partner: Buffer): Buffer[] {
    return [...this.heldRows.keysOf(under(partner))].map((row) => Buffer.from(row.subarray(32)))
  }

  async acknowledged(partner: Buffer, names: readonly Buffer[]): Promise<void> {
    await this.db.transaction(() => {
      for (const name of names)
        if (this.pages.has(name)) this.heldRows.put(Buffer.concat([partner, name]), present)
    })
  }

  /** The partner is to get all of them again. */
  async restart(partner: Buffer): Promise<void> {
    await this.db.transaction(() => {
      for (const row of [...this.heldRows.keysOf(under(partner))]) this.heldRows.remove(row)
    })
  }

  /**
   * Brings pages and head up to the table.
   * @param policy what the owner set, for the machine that recovers
   * @returns whether anything changed
   */
  async renew(policy: string): Promise<boolean> {
    const changed = this.stripes.dirty()
    const { head } = this
    const told = head && this.policyOf(head)
    if (changed.length === 0 && (told === undefined || told === policy)) return false
    await this.db.transaction(() => {
      this.renewLeaves(changed)
      const made = this.raise()
      this.replacePages(made.pages)
      this.notes.put('head', this.newHead(made.root, policy, made.pages.size))
      this.stripes.clean(changed)
    })
    return true
  }

  /** Numbers whose pages are made anew: ranges of leaves, and what follows the last. */
  private renewLeaves(changed: readonly number[]): void {
    const leaves = this.leafList()
    const touched = new Set<Leaf>()
    let end = leaves.at(-1)?.last ?? 0
    for (const number of changed) {
      const leaf = leaves.find(({ first, last }) => first <= number && number <= last)
      if (leaf) touched.add(leaf)
    }
    const lastLeaf = leaves.at(-1)
    const isGrowing = changed.some((number) => number > end)
    if (isGrowing && lastLeaf && (touched.has(lastLeaf) || lastLeaf.ref.sealedBytes < pageBytes)) {
      touched.add(lastLeaf)
      end = lastLeaf.first - 1
    }
    for (const leaf of touched) {
      this.leaves.remove(leaf.first)
      if (leaf.first <= end) this.putLeaves(leaf.first, leaf.last)
    }
    if (isGrowing) this.putLeaves(end + 1, Infinity)
  }

  private putLeaves(first: number, last: number): void {
    let group: NumberedStripe[] = []
    let bytes = 0
    const close = () => {
      const [begin] = group
      const finish = group.at(-1)
      if (begin && finish) this.putLeaf(begin.number, finish.number, group)
      group = []
      bytes = 0
    }
    for (let at = first - 1; ;) {
      const rows = this.stripes.since(at, stripesAtOnce)
      for (const stripe of rows) {
        if (stripe.number > last) break
        if (bytes + bytesInPage(stripe) > pageBytes) close()
        group.push(stripe)
        bytes += bytesInPage(stripe)
      }
      at = rows.at(-1)?.number ?? last
      if (rows.length < stripesAtOnce || at >= last) break
    }
    close()
  }

  private putLeaf(first: number, last: number, stripes: NumberedStripe[]): void {
    const { ref, bytes } = this.seal({ level: 0, stripes })
    const row = Buffer.alloc(44)
    row.writeBigUInt64LE(BigInt(last), 0)
    ref.name.copy(row, 8)
    row.writeUInt32LE(ref.sealedBytes, 40)
    this.leaves.put(first, row)
    this.pages.put(ref.name, bytes)
  }

  private leafList(): Leaf[] {
    return [...this.leaves.range()].map(({ key: first, value }) => ({
      first,
      last: Number(value.readBigUInt64LE(0)),
      ref: { name: Buffer.from(value.subarray(8, 40)), sealedBytes: value.readUInt32LE(40) },
    }))
  }

  private seal(page: Page): { ref: NodeRef; bytes: Buffer } {
    return sealNode(this.key, encodePage(page))
  }

  /** The pages above the leaves, up to one root. */
  private raise(): { root: NodeRef; pages: Set<string> } {
    let refs = this.leafList().map(({ ref }) => ref)
    const pages = new Set(refs.map(({ name }) => name.toString('hex')))
    for (let level = 1; ; level++) {
      const above: NodeRef[] = []
      for (let at = 0; at < Math.max(1, refs.length); at += pageEntries) {
        const { ref, bytes } = this.seal({ level, pages: refs.slice(at, at + pageEntries) })
        this.pages.put(ref.name, bytes)
        pages.add(ref.name.toString('hex'))
        above.push(ref)
      }
      const [root] = above
      if (root && above.length === 1) return { root, pages }
      refs = above
    }
  }

  /** What no page of the newest head is goes, here; at partners when they have the head. */
  private replacePages(wanted: ReadonlySet<string>): void {
    const old = [...this.pages.keysOf()].filter((name) => !wanted.has(name.toString('hex')))
    for (const name of old) this.pages.remove(name)
    for (const row of [...this.heldRows.keysOf()]) {
      const name = row.subarray(32)
      if (wanted.has(name.toString('hex'))) continue
      this.heldRows.remove(row)
      this.stripes.drop(Buffer.from(row.subarray(0, 32)), Buffer.from(name))
    }
  }

  private newHead(root: NodeRef, policy: string, pages: number): Buffer {
    const { identity, volume } = this
    const head: Head = {
      owner: identity.id,
      volumeId: volume,
      sequence: this.sequence + 1,
      time: this.clock.now(),
      blocks: pages,
      bytes: 0,
      snapshots: root,
      wrappedKeys: wrapVolumeKeys(identity.kek, identity.id, volume, newVolumeKeys()),
      sealedState: sealOwnerState(identity.kek, identity.id, volume, { label: policy, circles: [] }),
    }
    return encodeHead(head, identity)
  }

  private policyOf(head: Buffer): string {
    const { volumeId, sealedState } = decodeHead(head)
    return openOwnerState(this.identity.kek, this.identity.id, volumeId, sealedState).label
  }

  /**
   * Takes over what a placement head and its pages tell, unless a newer one is here.
   * @param read the blocks of pages, verified, from partners
   * @returns the policy that the owner had set
   * @throws KithError noPartners, or damaged, when a page is not to be had
   */
  async adopt(head: Buffer, read: BlockReader): Promise<string> {
    const { snapshots, sequence } = decodeHead(head)
    const policy = this.policyOf(head)
    if (sequence <= this.sequence && !this.isAdopting) return policy
    await this.db.transaction(() => this.notes.put('adopting', present))
    const open = [snapshots]
    for (let ref = open.pop(); ref; ref = open.pop()) {
      const sealed = await read.get(ref.name)
      if (!sealed)
        throw new KithError('damaged', 'no partner has the whole account of which partner holds what')
      const page = decodePage(openNode(this.key, ref, sealed))
      if ('stripes' in page) await this.stripes.adopt(page.stripes)
      else open.push(...page.pages)
    }
    await this.db.transaction(() => {
      this.notes.put('head', head)
      this.notes.remove('adopting')
      this.notes.put('policy', Buffer.from(policy))
      const now = Buffer.alloc(8)
      now.writeBigUInt64LE(BigInt(Math.round(this.clock.now())))
      this.notes.put('adopted', now)
    })
    return policy
  }

  /** The account that a recovery reads is not here whole. */
  get isAdopting(): boolean {
    return this.notes.get('adopting') !== undefined
  }

  /** When the account was taken over, ms since 1970; undefined: it began here. */
  get adoptedAt(): number | undefined {
    const adopted = this.notes.get('adopted')
    return adopted && Number(adopted.readBigUInt64LE())
  }

  /** The policy that came with the account, before the owner's setting is known to be one. */
  get adoptedPolicy(): string | undefined {
    return this.notes.get('policy')?.toString()
  }

  /** From here on the owner's setting is what counts. */
  async policySet(): Promise<void> {
    if (this.adoptedPolicy !== undefined) await this.db.transaction(() => this.notes.remove('policy'))
  }

  /** Everything was released. The number of the last head stays: a later one must be above it. */
  async clear(): Promise<void> {
    await this.db.transaction(() => {
      this.pages.clear()
      this.leaves.clear()
      this.heldRows.clear()
      for (const note of ['adopting', 'adopted', 'policy']) this.notes.remove(note)
    })
  }
}
