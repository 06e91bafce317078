/** What the parts of partners/ say to each other and to the daemon: sessions as seen from outside, and facts about partners. */
import type { Spread } from '../format/coin.js'
import type { BlockRange } from '../format/wire-pool.js'
import type { Replies, RequestKind, Requests, NamedBlock, ProvenBlock } from '../format/wire.js'

/** What the peer of a session may do here. Asked again for each request, since circles change. */
export interface Permissions {
  /** Shares a circle with us, or is bound to us by an agreement: may place data in our vault. */
  member: boolean
  /** Has data in our vault: may read it back, audit it and release it. Looked up in the vault each time it is read. */
  readonly owner: boolean
  /** Comes from the open pool: may ask what we offer, and propose an agreement. */
  stranger?: boolean
}

/** A live, authenticated connection to one partner, after both said hello. */
export interface Peer {
  /** Ed25519 public key, proven by the Noise handshake. */
  readonly key: Buffer
  /** What the partner calls itself: shown to people, never trusted. */
  readonly name: string
  /** Lends space: may be asked to hold blocks. */
  readonly lends: boolean
  /** Makes agreements; an older kith does not. */
  readonly agrees: boolean
  /** Proves possession of parts of blocks; what another claims to hold does not count. */
  readonly proves: boolean
  /** Gives parts of blocks back; of an older kith whole ones are asked. */
  readonly gives: boolean
  /** Takes announced absences; an older kith does not. */
  readonly hears: boolean
  /** Keeps lists of partners' partners; an older kith does not. */
  readonly keepsLists: boolean
  /** Tells one vault of its own from the next; an older kith does not. */
  readonly tellsGeneration: boolean
  /** Attests how others keep their agreements; an older kith does not. */
  readonly attests: boolean
  /** Wants to know which of its partners ask after it; an older kith does not. */
  readonly heeds: boolean
  readonly closed: boolean
  /** @throws KithError: what the partner answered, `timeout`, or `noPartners` when the connection is gone */
  request<K extends RequestKind>(kind: K, message: Requests[K]): Promise<Replies[K]>
  /** Sends blocks that the next `commit` request makes durable; resolves when they are on their way and there is room for more, so that it can be called in a loop. */
  put(blocks: readonly NamedBlock[]): Promise<void>
}

/** The connections there are now: what network.ts gives to the uploader, the auditor and the fetcher. */
export interface Peers {
  online(): Peer[]
  /** Calls `run` whenever a session opens or closes. Returns what ends that. */
  onChange(run: () => void): () => void
  /** Looks for those that are away, and dials them, now: somebody waits. */
  hurry(): void
}

/** What a session needs of our vault (vault/vault.ts, which the daemon joins with this folder; what each throws is said there). */
export interface PeersVault {
  missing(owner: Buffer, names: readonly Buffer[]): boolean[]
  put(owner: Buffer, name: Buffer, bytes: Buffer): Promise<void>
  /** takes several in turn, up to the first that is refused; none, when one is damaged */
  putAll(owner: Buffer, blocks: readonly NamedBlock[]): Promise<void>
  commit(owner: Buffer): Promise<{ blocks: number; bytes: number }>
  putHead(owner: Buffer, head: Buffer): Promise<void>
  heads(owner: Buffer, volume?: Buffer): Buffer[]
  /** sealed bytes of a block that the owner may read */
  size(owner: Buffer, name: Buffer): number | undefined
  get(owner: Buffer, name: Buffer): Promise<Buffer | undefined>
  prove(owner: Buffer, nonce: Buffer, names: readonly Buffer[]): Promise<(Buffer | undefined)[]>
  /** for each part of a block, whoever's it is, a proof that it is here */
  probe(nonce: Buffer, ranges: readonly BlockRange[]): Promise<(Buffer | undefined)[]>
  flip(owner: Buffer, committed: Buffer): Buffer
  reveal(owner: Buffer, r1: Buffer, spread: Spread): Promise<ProvenBlock[]>
  /** what the owner may count on; `generation` is another when the vault is another */
  held(owner: Buffer): { blocks: number; bytes: number; releaseNumber: number; generation: Buffer }
  release(owner: Buffer, request: Buffer): Promise<{ blocks: number; bytes: number }>
  /** lets go of all that is held for that owner, without its request */
  evict(owner: Buffer): Promise<{ blocks: number; bytes: number }>
  /** whether anything is held for that owner */
  knows(owner: Buffer): boolean
}

/** Answers the messages about agreements with one partner (agreements.ts). */
export interface AnswerPacts {
  newest(message: Requests['pactNewest']): Promise<Replies['pactNewest']>
  terms(): Promise<Replies['pactTerms']>
  /** @throws KithError denied for an offer that is not this partner's to us */
  offer(message: Requests['pactOffer']): Promise<Replies['pactOffer']>
  /** @throws KithError denied, as above */
  end(message: Requests['pactEnd']): Promise<Replies['pactEnd']>
}

/** Answers the messages about partners' partners with one peer (fellows.ts). */
export interface AnswerFellows {
  /** whether the peer holds data of an owner of whom we hold some, by that owner's word */
  isFellow(): boolean
  /** @throws KithError denied for a list that is not this partner's to us */
  put(message: Requests['fellowsPut']): Promise<Replies['fellowsPut']>
  get(): Replies['fellowsGet']
  /** @throws KithError denied when it is no fellow for that owner, notFound */
  seen(message: Requests['seen']): Replies['seen']
}

/** Answers a stranger's query (pool.ts). */
export type AnswerPool = (query: Requests['poolQuery']) => Promise<Replies['poolQuery']>

/** The owner's own blocks and heads: what the daemon gives to the uploader and the auditor, from the store. */
export interface OwnedBlocks {
  /** Blocks inserted after `sequence`, oldest first. */
  since(sequence: number, limit: number): { sequence: number; name: Buffer; bytes: number }[]
  /** Blocks whose names begin from `start` on and before `end` (without it: to the last). */
  within(range: { start: Buffer; end?: Buffer }, limit: number): { sequence: number; name: Buffer }[]
  /** The highest sequence number given so far; 0 before the first. */
  last(): number
  /** How many blocks there are up to `sequence`; where some were removed, an estimate. */
  countTo(sequence: number): number
  /** The sealed bytes, verified; undefined when it is gone. */
  get(name: Buffer): Promise<Buffer | undefined>
  /** The newest signed head of each volume. */
  heads(): Buffer[]
  /**
   * The sealed bytes of a block that is not kept here, or not whole, from whichever partner has them; undefined when they are
   * not to be had now.
   */
  fetch(name: Buffer): Promise<Buffer | undefined>
  /** Whether the block is known: here, or kept by partners only. */
  has(name: Buffer): boolean
  /** Whether its bytes are here; they may turn out not to be whole. */
  isHere(name: Buffer): boolean
  /** What the store removed, in the order of its numbers: those above `after`. */
  removed(after: number, limit: number): { number: number; name: Buffer }[]
  /** The number of the last removal; 0 before the first. */
  lastRemoved(): number
  /** All partners were told of the removals up to this number. */
  removalsTold(number: number): Promise<void>
}

export type Damage = 'missing' | 'wrong' | 'oldHead' | 'badHead' | 'unreachable'

/** Whether the partner really holds what it acknowledged, by the last audits. */
export interface Verdict {
  state: 'unknown' | 'good' | 'damaged'
  /** What was found, until a later full audit is clean. */
  found: Damage[]
  /** Blocks found missing or wrong since the verdict turned to damaged. */
  blocks: number
  /** Of those, sent again and acknowledged. */
  repaired: number
  /** Milliseconds since 1970 of the finding. */
  at: number
}
