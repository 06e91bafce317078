/** What the messages between partners carry: types alone. Numbers, bounds and bytes are in wire.ts. */
import type { ErrorCode } from '../base/errors.js'
import type { Spread } from './coin.js'
import type { Newest, PactAnswer, Wishes } from './wire-agreement.js'
import type { Attestations } from './wire-attestation.js'
import type { ProvenBlock } from './wire-flip.js'
import type { BlockPart } from './wire-parts.js'
import type { PoolAnswer, PoolQuery, Probe } from './wire-pool.js'

/** Request name -> what it carries. */
export interface Requests {
  offer: { names: Buffer[] }
  commit: Record<never, never>
  headPut: { head: Buffer }
  headGet: { volume?: Buffer }
  get: { names: Buffer[] }
  prove: { nonce: Buffer; names: Buffer[] }
  held: Record<never, never>
  generation: Record<never, never>
  release: { request: Buffer }
  pactNewest: { number: number }
  pactTerms: Record<never, never>
  pactOffer: { offer: Buffer }
  pactEnd: { ending: Buffer }
  flip: { committed: Buffer }
  reveal: { r1: Buffer; spread: Spread }
  poolQuery: PoolQuery
  probe: Probe
  getParts: { parts: BlockPart[] }
  away: { notice: Buffer }
  fellowsPut: { list: Buffer }
  fellowsGet: Record<never, never>
  seen: { owner: Buffer }
  attest: Record<never, never>
  missed: { partner: Buffer }
}

/** Request name -> what its reply carries. */
export interface Replies {
  /** one a name offered, in order; true: send it */
  offer: { missing: boolean[] }
  commit: { blocks: number; bytes: number }
  headPut: Record<never, never>
  headGet: { heads: Buffer[] }
  /** one a name asked for, in order; `later`: left out for size, ask again */
  get: { blocks: (Buffer | 'absent' | 'later')[] }
  prove: { proofs: (Buffer | undefined)[] }
  held: { bytes: number; blocks: number; releaseNumber: number }
  generation: { generation: Buffer }
  release: { blocks: number; bytes: number }
  pactNewest: Newest
  pactTerms: Wishes
  pactOffer: PactAnswer
  pactEnd: Record<never, never>
  flip: { r2: Buffer }
  reveal: { drawn: ProvenBlock[] }
  poolQuery: PoolAnswer
  /** one a part asked for, in order */
  probe: { proofs: (Buffer | undefined)[] }
  /** one a part asked for, in order */
  getParts: { blocks: (Buffer | 'absent' | 'later')[] }
  away: { until: number }
  fellowsPut: { number: number }
  /** empty: none is kept */
  fellowsGet: { list: Buffer }
  seen: { ageMs: number }
  attest: Attestations
  missed: Record<never, never>
}

export type RequestKind = keyof Requests

export interface NamedBlock {
  name: Buffer
  bytes: Buffer
}

export interface Hello {
  version: number
  capabilities: number
  name: string
}

export type RequestFrame = {
  [K in RequestKind]: { type: 'request'; kind: K; id: number; message: Requests[K] }
}[RequestKind]

export type ReplyFrame = {
  [K in RequestKind]: { type: 'reply'; kind: K; id: number; message: Replies[K] }
}[RequestKind]

export type Frame =
  | { type: 'hello'; hello: Hello }
  | { type: 'credit'; bytes: number }
  | { type: 'error'; id: number; code: ErrorCode; text: string }
  | { type: 'put'; blocks: NamedBlock[] }
  | RequestFrame
  | ReplyFrame
