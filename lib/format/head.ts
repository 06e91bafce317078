/**
 * Heads: the newest signed root of a volume, kept by the owner and by every partner. The highest sequence that
 * verifies wins. Layout:
 *
 *     [0]         version, 1
 *     [1..4)      0
 *     [4..36)     owner: Ed25519 public key
 *     [36..52)    volume id
 *     [52..60)    sequence, grows with every head of the volume
 *     [60..68)    time, ms since 1970
 *     [68..76)    blocks that the volume's snapshots reach in all
 *     [76..84)    their sealed bytes
 *     [84..116)   snapshot list: name of its root node; [116..120) its sealed length
 *     [120..256)  volume keys, wrapped under the phrase's KEK (keys.ts)
 *     [256..260)  length n of the sealed owner state, at most 64 KiB
 *     [260..)     owner state: nonce 24, XChaCha20-Poly1305, tag 16, under the KEK; associated data
 *                 `kith owner state`, owner, volume id
 *     last 64     signature of everything before it, namespace `kith head`
 *
 * Owner state, plaintext:
 *
 *     [0]      version, 1
 *     [1]      number of circles, at most 64
 *     [2..4)   length of the label; then the label, UTF-8: what the owner calls the volume (its directory)
 *     circles  each: secret 32, length u16 and bytes of its name, UTF-8
 */
import { assert } from '../base/errors.js'
import { damaged, Reader, Writer } from './bytes.js'
import { readNodeRef, writeNodeRef } from './entry.js'
import { publicKeyBytes, sign, signatureBytes, verify } from './hash.js'
import {
  decryptUnder,
  encryptUnder,
  keyBytes,
  volumeContext,
  volumeIdBytes,
  wrappedKeysBytes,
  type Identity,
} from './keys.js'
import type { NodeRef } from './seal.js'

export const maxHeadBytes = 260 + 65_536 + signatureBytes
export const maxCircles = 64

const version = 1
const maxStateBytes = 65_536
const maxLabelBytes = 4096
const maxCircleNameBytes = 255

export interface Head {
  owner: Buffer
  volumeId: Buffer
  sequence: number
  /** ms since 1970, by the owner's clock */
  time: number
  blocks: number
  bytes: number
  snapshots: NodeRef
  wrappedKeys: Buffer
  sealedState: Buffer
}

export interface Circle {
  name: string
  /** 32 bytes */
  secret: Buffer
}

/** What a recovered owner must know besides the volume's keys. */
export interface OwnerState {
  label: string
  circles: Circle[]
}

/** Encodes and signs. The head's owner must be the identity. */
export function encodeHead(head: Head, identity: Identity): Buffer {
  assert(head.owner.equals(identity.id), 'heads are signed by their owner')
  assert(head.volumeId.length === volumeIdBytes, 'volume ids have 16 bytes')
  assert(head.wrappedKeys.length === wrappedKeysBytes, 'wrapped keys have 136 bytes')
  assert(head.sealedState.length <= maxStateBytes, 'the owner state has at most 64 KiB')
  const out = new Writer().u8(version).zero(3).raw(head.owner).raw(head.volumeId)
  out.number(head.sequence).number(head.time).number(head.blocks).number(head.bytes)
  writeNodeRef(out, head.snapshots)
  out.raw(head.wrappedKeys).u32(head.sealedState.length).raw(head.sealedState)
  const signed = out.finish()
  return Buffer.concat([signed, sign(identity.keyPair.secretKey, 'kith head', signed)])
}

/** Throws KithError `damaged` unless the head is well formed and its owner's signature verifies. */
export function decodeHead(bytes: Buffer): Head {
  const from = new Reader(bytes, 'head')
  if (bytes.length > maxHeadBytes) throw from.damaged('it is too long')
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  from.zero(3)
  const head: Head = {
    owner: from.slice(publicKeyBytes),
    volumeId: from.slice(volumeIdBytes),
    sequence: from.number(),
    time: from.number(),
    blocks: from.number(),
    bytes: from.number(),
    snapshots: readNodeRef(from),
    wrappedKeys: from.slice(wrappedKeysBytes),
    sealedState: from.slice(boundedLength(from)),
  }
  const signed = bytes.subarray(0, from.at)
  const signature = from.slice(signatureBytes)
  from.end()
  if (!verify(head.owner, 'kith head', signed, signature)) throw from.damaged('its signature does not verify')
  return head
}

/** Of a head that was signed here: nothing is verified. */
export function headSequence(head: Buffer): number {
  return new Reader(head.subarray(4 + publicKeyBytes + volumeIdBytes), 'head').number()
}

function boundedLength(from: Reader): number {
  const length = from.u32()
  if (length > maxStateBytes) throw from.damaged('the owner state is too long')
  return length
}

/** Of heads from anywhere: for each volume of this owner the one with the highest sequence that verifies. */
export function newestHeads(candidates: Iterable<Buffer>, owner: Buffer): { head: Head; bytes: Buffer }[] {
  const newest = new Map<string, { head: Head; bytes: Buffer }>()
  for (const bytes of candidates) {
    const head = tryDecode(bytes)
    if (!head?.owner.equals(owner)) continue
    const volume = head.volumeId.toString('hex')
    const known = newest.get(volume)
    if (!known || known.head.sequence < head.sequence) newest.set(volume, { head, bytes })
  }
  return [...newest.values()]
}

function tryDecode(bytes: Buffer): Head | undefined {
  try {
    return decodeHead(bytes)
  } catch {
    return undefined
  }
}

export function sealOwnerState(kek: Buffer, owner: Buffer, volumeId: Buffer, state: OwnerState): Buffer {
  const label = Buffer.from(state.label)
  assert(label.length <= maxLabelBytes && state.circles.length <= maxCircles, 'the owner state is bounded')
  const out = new Writer().u8(version).u8(state.circles.length).u16(label.length).raw(label)
  for (const circle of state.circles) {
    const name = Buffer.from(circle.name)
    assert(circle.secret.length === keyBytes && name.length <= maxCircleNameBytes, 'circles are bounded')
    out.raw(circle.secret).u16(name.length).raw(name)
  }
  return encryptUnder(kek, volumeContext('kith owner state', owner, volumeId), out.finish())
}

/** Throws KithError `damaged` when the KEK, the owner or the volume is another, or the content is malformed. */
export function openOwnerState(kek: Buffer, owner: Buffer, volumeId: Buffer, sealed: Buffer): OwnerState {
  const context = volumeContext('kith owner state', owner, volumeId)
  if (sealed.length > maxStateBytes) throw damaged('owner state', 'it is too long')
  const from = new Reader(decryptUnder(kek, context, sealed, 'owner state'), 'owner state')
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  const count = from.u8()
  if (count > maxCircles) throw from.damaged('it has too many circles')
  const label = readText(from, maxLabelBytes)
  const circles: Circle[] = []
  for (let i = 0; i < count; i++) {
    const secret = from.slice(keyBytes)
    circles.push({ secret, name: readText(from, maxCircleNameBytes) })
  }
  from.end()
  return { label, circles }
}

function readText(from: Reader, bound: number): string {
  const length = from.u16()
  if (length > bound) throw from.damaged('a text is too long')
  return from.slice(length).toString('utf8')
}
