/**
 * Messages of the gate (membership.ts), on protomux channel `kith/gate/1` of every connection. Each is one protomux
 * message; the number is its place in the channel.
 *
 *     0 hello     [0] version 1   [1] count of proofs, 8 to 64 and a multiple of 8   [2..) proofs, 32 bytes each.
 *                 A proof: keyedHash(circle secret, 'kith membership', handshake hash 64, sender 32, receiver 32).
 *                 Filled up with random bytes, so that it does not show in how many circles the sender is.
 *     1 verdict   [0] version 1   [1] what the receiver is to the sender: 0 nobody, 1 owner (the sender holds its
 *                 data), 2 member (or bound by an agreement), 3 stranger (of the open pool: it may ask)   [2..4) UDP port on which the sender listens, 0 when it is not to be kept
 *     2 join      [0] version 1   [1..33) topic of the invite   [33..65) proof (invite.ts)
 *     3 answer    [0] version 1   [1] 0 granted, else why not (invite.ts, refusals)
 *                 granted only: [2..34) proof   [34..) sealed grant, at most 512 bytes
 *     4 joined    [0] version 1   [1..33) topic of the invite: its grant is stored
 */
import { KithError } from '../base/errors.js'
import { Reader, Writer } from '../format/bytes.js'
import { hashBytes, keyedHash } from '../format/hash.js'
import { maxCircles } from '../format/head.js'
import { randomBytes } from '../base/random.js'
import { refusals, type InviteAnswer, type Refusal } from './invite.js'

export const gateProtocol = 'kith/gate/1'
export const gateMessages = { hello: 0, verdict: 1, join: 2, answer: 3, joined: 4 } as const

const version = 1
const proofStep = 8
const maxSealedBytes = 512

/** What a peer is to us, or we to it. */
export type Standing = 'nobody' | 'owner' | 'member' | 'stranger'
const standings: readonly Standing[] = ['nobody', 'owner', 'member', 'stranger']

function open(bytes: Buffer, what: string): Reader {
  const from = new Reader(bytes, what)
  if (from.u8() !== version)
    throw new KithError('protocol', `the partner sent a ${what} of an unknown version`)
  return from
}

export function membershipProof(
  secret: Buffer,
  handshakeHash: Buffer,
  sender: Buffer,
  receiver: Buffer,
): Buffer {
  return keyedHash(secret, 'kith membership', handshakeHash, sender, receiver)
}

export function encodeHello(proofs: readonly Buffer[]): Buffer {
  const count = Math.max(proofStep, Math.ceil(proofs.length / proofStep) * proofStep)
  const out = new Writer(2 + count * hashBytes).u8(version).u8(count)
  for (const proof of proofs) out.raw(proof)
  return out.raw(randomBytes((count - proofs.length) * hashBytes)).finish()
}

export function decodeHello(bytes: Buffer): Buffer[] {
  const from = open(bytes, 'hello')
  const count = from.u8()
  if (count > maxCircles) throw from.damaged('it has too many proofs')
  const proofs = Array.from({ length: count }, () => Buffer.from(from.slice(hashBytes)))
  from.end()
  return proofs
}

export function encodeVerdict(standing: Standing, port: number): Buffer {
  return new Writer(4).u8(version).u8(standings.indexOf(standing)).u16(port).finish()
}

export function decodeVerdict(bytes: Buffer): { standing: Standing; port: number } {
  const from = open(bytes, 'verdict')
  const standing = standings[from.u8()]
  if (standing === undefined) throw from.damaged('it says something unknown')
  const port = from.u16()
  from.end()
  return { standing, port }
}

export function encodeJoin(topic: Buffer, proof: Buffer): Buffer {
  return new Writer(65).u8(version).raw(topic).raw(proof).finish()
}

export function decodeJoin(bytes: Buffer): { topic: Buffer; proof: Buffer } {
  const from = open(bytes, 'join')
  const topic = Buffer.from(from.slice(hashBytes))
  const proof = Buffer.from(from.slice(hashBytes))
  from.end()
  return { topic, proof }
}

export function encodeAnswer(answer: InviteAnswer): Buffer {
  const out = new Writer(2 + hashBytes + maxSealedBytes).u8(version)
  if (!answer.granted) return out.u8(refusals[answer.why]).finish()
  return out.u8(0).raw(answer.proof).raw(answer.sealed).finish()
}

export function decodeAnswer(bytes: Buffer): InviteAnswer {
  const from = open(bytes, 'answer')
  const code = from.u8()
  if (code !== 0) {
    from.end()
    const known = Object.entries(refusals).find(([, number]) => number === code)
    return { granted: false, why: known ? (known[0] as Refusal) : 'unknown' }
  }
  const proof = Buffer.from(from.slice(hashBytes))
  if (from.left > maxSealedBytes) throw from.damaged('its grant is too long')
  return { granted: true, proof, sealed: Buffer.from(from.slice(from.left)) }
}

export function encodeJoined(topic: Buffer): Buffer {
  return new Writer(33).u8(version).raw(topic).finish()
}

export function decodeJoined(bytes: Buffer): Buffer {
  const from = open(bytes, 'joined')
  const topic = Buffer.from(from.slice(hashBytes))
  from.end()
  return topic
}
