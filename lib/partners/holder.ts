/**
 * The holder's side of a session: answers one peer's requests from our vault, as far as the peer may ask.
 * Members of a circle, and who is bound to us by an agreement, may make agreements and place data; owners of data here may read,
 * audit and release it; strangers of the open pool may ask what we offer, have a few claims proven, and propose an agreement;
 * who holds data of the same owner may ask when it was last on line; nobody else gets an answer that tells what is here.
 */
import { KithError, asKithError } from '../base/errors.js'
import {
  maxBatchBytes,
  type NamedBlock,
  type Replies,
  type RequestKind,
  type Requests,
} from '../format/wire.js'
import type { BlockPart } from '../format/wire-parts.js'
import type { BlockRange } from '../format/wire-pool.js'
import type { Answerer } from './session.js'
import type { AnswerFellows, AnswerPacts, AnswerPool, Permissions, PeersVault } from './types.js'

/** What a peer that is no member must be for each request. */
const needs: { [K in RequestKind]: 'member' | 'owner' | 'stranger' | 'either' | 'fellow' } = {
  offer: 'member',
  commit: 'member',
  headPut: 'member',
  headGet: 'owner',
  get: 'owner',
  getParts: 'owner',
  prove: 'owner',
  held: 'owner',
  generation: 'owner',
  release: 'owner',
  flip: 'owner',
  reveal: 'owner',
  pactNewest: 'either',
  pactTerms: 'stranger',
  pactOffer: 'stranger',
  pactEnd: 'either',
  poolQuery: 'stranger',
  probe: 'stranger',
  away: 'either',
  fellowsPut: 'member',
  fellowsGet: 'owner',
  seen: 'fellow',
  attest: 'either',
  missed: 'either',
}
/** Names are checked so many at a time, side by side; a few small ones are not waited with. */
const checkedAtOnce = 8
const waitedWith = 256 * 1024
/** Parts of blocks that a stranger has proven to it, in one session: each costs a read. */
const maxProbedByStranger = 16

export interface Beside {
  /** none: this node is not in the open pool */
  pool?: AnswerPool
  /** until then restores are not honoured, as agreed upon, ms since 1970; 0: they are */
  refusesUntil?(): number
  fellows?: AnswerFellows
  /** one of our partners asked it after us. @throws KithError denied */
  missed?(message: Requests['missed']): Replies['missed']
  /** what it is told of itself, and of us */
  attested?(): Replies['attest']
  /** takes its announced absence. @returns until when, ms since 1970. @throws KithError denied */
  away?(notice: Buffer): Promise<number>
  /** a sealed block of this node's own, if the peer may know of it and it is here */
  own?(name: Buffer): Promise<Buffer | undefined>
}

export class Holder implements Answerer {
  /** Why a block sent since the last commit was not taken. */
  private refused: KithError | undefined
  /** Blocks that came and are not checked yet: fewer than are checked at once. */
  private unchecked: NamedBlock[] = []
  private probed = 0

  /**
   * @param permissions asked for each request, since circles change while a session lasts
   * @param agreements none: this node makes no agreements
   * @param more what a whole node has beside its vault
   */
  constructor(
    private readonly vault: PeersVault,
    private readonly peer: Buffer,
    private readonly permissions: () => Permissions,
    private readonly agreements?: AnswerPacts,
    private readonly more: Beside = {},
  ) {}

  async put(blocks: NamedBlock[]): Promise<void> {
    if (!this.permissions().member)
      throw new KithError('protocol', 'the partner sent blocks without an offer')
    this.unchecked.push(...blocks)
    const bytes = this.unchecked.reduce((sum, block) => sum + block.bytes.length, 0)
    if (this.unchecked.length >= checkedAtOnce || bytes < waitedWith) await this.settle()
  }

  /** Takes in what was put; it waits for nothing any more. */
  async settle(): Promise<void> {
    const blocks = this.unchecked
    this.unchecked = []
    if (blocks.length === 0 || this.refused) return
    try {
      await this.vault.putAll(this.peer, blocks)
    } catch (error) {
      const known = asKithError(error)
      if (known.code === 'damaged')
        throw new KithError('protocol', `the partner broke the protocol: ${known.message}`)
      this.refused = known
    }
  }

  async answer<K extends RequestKind>(kind: K, message: Requests[K]): Promise<Replies[K]> {
    if (!this.isAllowed(needs[kind]))
      throw new KithError('denied', 'you share no circle with this partner and have no data here')
    return this.answers[kind](message)
  }

  private isAllowed(need: (typeof needs)[RequestKind]): boolean {
    if (need === 'fellow') return this.more.fellows?.isFellow() === true
    const permissions = this.permissions()
    // One without data here gets the answers of an owner with none.
    if (permissions.member) return true
    if (permissions.stranger && (need === 'stranger' || need === 'either')) return true
    return (need === 'owner' || need === 'either') && permissions.owner
  }

  private readonly answers: { [K in RequestKind]: (message: Requests[K]) => Promise<Replies[K]> } = {
    offer: async ({ names }) => ({ missing: await this.missing(names) }),
    commit: () => this.commit(),
    headPut: async ({ head }) => {
      await this.vault.putHead(this.peer, head)
      return {}
    },
    headGet: async ({ volume }) => ({ heads: this.vault.heads(this.peer, volume) }),
    get: ({ names }) => this.get(names),
    getParts: ({ parts }) => this.getParts(parts),
    prove: async ({ nonce, names }) => ({ proofs: await this.vault.prove(this.peer, nonce, names) }),
    held: async () => this.vault.held(this.peer),
    generation: () => Promise.resolve({ generation: this.vault.held(this.peer).generation }),
    release: ({ request }) => this.vault.release(this.peer, request),
    flip: ({ committed }) => Promise.resolve({ r2: this.vault.flip(this.peer, committed) }),
    reveal: async ({ r1, spread }) => ({ drawn: await this.vault.reveal(this.peer, r1, spread) }),
    pactNewest: async (message) => this.pacts().newest(message),
    pactTerms: async () => this.pacts().terms(),
    pactOffer: async (message) => this.pacts().offer(message),
    pactEnd: async (message) => this.pacts().end(message),
    poolQuery: async (message) => {
      if (!this.more.pool) throw new KithError('unsupported', 'this node is not in the open pool')
      return this.more.pool(message)
    },
    away: async ({ notice }) => ({ until: (await this.more.away?.(notice)) ?? 0 }),
    probe: ({ nonce, ranges }) => this.probe(nonce, ranges),
    fellowsPut: async (message) => this.lists().put(message),
    fellowsGet: () => Promise.resolve(this.lists().get()),
    seen: (message) => Promise.resolve(this.lists().seen(message)),
    missed: (message) => Promise.resolve(this.more.missed?.(message) ?? {}),
    attest: () => Promise.resolve(this.more.attested?.() ?? { own: undefined, shown: [] }),
  }

  /**
   * What the peer must send. A block that this node has of its own, since both share a circle's secret, is put into the vault
   * from here: a copy, which the peer's interest keeps when we need ours no longer.
   */
  private async missing(names: Buffer[]): Promise<boolean[]> {
    const missing = this.vault.missing(this.peer, names)
    for (const [i, name] of names.entries()) {
      const own = missing[i] ? await this.ofOurs(name) : undefined
      if (!own) continue
      try {
        await this.vault.put(this.peer, name, own)
        missing[i] = false
      } catch (error) {
        // There is no room: that is said when the peer sends something, as always.
        if (asKithError(error).code === 'noSpace' || asKithError(error).code === 'busy') break
        throw error
      }
    }
    return missing
  }

  /** Damaged ones are for `kith repair`. */
  private async ofOurs(name: Buffer): Promise<Buffer | undefined> {
    try {
      return await this.more.own?.(name)
    } catch (error) {
      if (asKithError(error).code === 'damaged') return undefined
      throw error
    }
  }

  private async probe(nonce: Buffer, ranges: BlockRange[]): Promise<Replies['probe']> {
    if (!this.permissions().member) {
      this.probed += ranges.length
      if (this.probed > maxProbedByStranger) throw new KithError('denied', 'that is too much to ask for')
    }
    return { proofs: await this.vault.probe(nonce, ranges) }
  }

  private pacts(): AnswerPacts {
    if (this.agreements) return this.agreements
    throw new KithError('unsupported', 'this node makes no agreements')
  }

  private lists(): AnswerFellows {
    if (this.more.fellows) return this.more.fellows
    throw new KithError('unsupported', "this node keeps no lists of partners' partners")
  }

  /** What could be taken is kept even when something was refused. */
  private async commit(): Promise<Replies['commit']> {
    await this.settle()
    const refused = this.refused
    this.refused = undefined
    const added = await this.vault.commit(this.peer)
    if (refused) throw refused
    return added
  }

  /** @throws KithError denied while by the commitment restores are not honoured */
  private honour(): void {
    const until = this.more.refusesUntil?.() ?? 0
    if (until > 0) {
      const date = new Date(until).toISOString().slice(0, 10)
      throw new KithError(
        'denied',
        `by the commitment of the agreement, restores are honoured from ${date} on`,
      )
    }
  }

  /** Parts of a block follow one another as a rule: it is read, and compared with its name, once. */
  private async getParts(parts: BlockPart[]): Promise<Replies['getParts']> {
    this.honour()
    const blocks: Replies['getParts']['blocks'] = []
    let last: { name: Buffer; bytes: Buffer | undefined } | undefined
    for (const { name, offset, length } of parts) {
      if (last?.name.equals(name) !== true) last = { name, bytes: await this.vault.get(this.peer, name) }
      const part = last.bytes?.subarray(offset, offset + length)
      blocks.push(part?.length === length ? part : 'absent')
    }
    return { blocks }
  }

  private async get(names: Buffer[]): Promise<Replies['get']> {
    this.honour()
    let room = maxBatchBytes
    const blocks: Replies['get']['blocks'] = []
    for (const name of names) {
      if ((this.vault.size(this.peer, name) ?? 0) > room) {
        blocks.push('later')
        continue
      }
      const bytes = await this.vault.get(this.peer, name)
      room -= bytes?.length ?? 0
      blocks.push(bytes ?? 'absent')
    }
    return { blocks }
  }
}
