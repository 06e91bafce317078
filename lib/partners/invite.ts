/**
 * Invites: how a circle's secret reaches a friend. The inviter passes a code by any channel that the two trust; it
 * carries a random token of 128 bits. Both meet on the DHT under a topic that only the token's holders can compute,
 * prove the token to each other inside the Noise session, and only then does the secret travel, encrypted by the
 * session and once more under a key of the token.
 *
 * An invite serves one person: the first key that proves the token. Until that person's node has confirmed that it
 * stored the secret, it may ask again (its connection may have broken); after that the invite is used up. It expires
 * by the wall clock, and a bounded number of wrong proofs burns it. Who comes too late is told so: the record, and the
 * announcement of the topic, stay for a day longer.
 *
 * Code: 30 characters of Crockford's base32 (no I, L, O, U; typed ones are read as 1, 1, 0, and U is refused) in six
 * groups; 150 bits: token 128, then the first 22 bits of hash('kith invite check', token).
 *
 * Derived:  topic      hash('kith invite topic', token)
 *           key        hash('kith invite key', token)
 *           proofs     keyedHash(key, 'kith invite join' | 'kith invite grant', handshake hash 64, joiner, inviter)
 *           sealing    keyedHash(key, 'kith invite seal', handshake hash 64)
 *
 * Grant, plaintext: [0] version 1  [1..33) circle secret  [33..35) length of the circle's name u16, the name
 *                   then length of the inviter's name u16, the name (UTF-8 both)
 *
 * Stored in table `invites`, under the topic:
 *
 *     [0]         version, 1
 *     [1]         state: 0 open, 1 granted to one key that has not confirmed yet, 2 used, 3 burnt
 *     [2]         wrong proofs so far
 *     [3]         0
 *     [4..20)     token
 *     [20..52)    circle id
 *     [52..84)    public key that it was granted to, or zero
 *     [84..92)    expires, ms since 1970: u64
 */
import sodium from 'sodium-native'
import type { Clock } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import { randomBytes } from '../base/random.js'
import { encodings, type Database, type Table } from '../blocks/database.js'
import { Reader, Writer } from '../format/bytes.js'
import { hash, hashBytes, keyedHash, publicKeyBytes } from '../format/hash.js'
import { decryptUnder, encryptUnder } from '../format/keys.js'
import { circleId, circleSecretBytes, type Circle, type CircleSecret } from './circle.js'

export const inviteLifetimeMs = 24 * 3_600_000
/** How long after its end an invite is still answered, with the reason why not. */
const afterlifeMs = 24 * 3_600_000
export const wrongProofsAllowed = 8
const maxInvites = 256
const tokenBytes = 16
const checkBits = 22
const codeLength = 30
const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const version = 1

export const handshakeHashBytes = 64

/** One session between the two, as both know it. */
export interface InviteSession {
  handshakeHash: Buffer
  joiner: Buffer
  inviter: Buffer
}

export interface Grant extends CircleSecret {
  /** what the inviter's node calls itself */
  inviterName: string
}

/** Why an invite is not granted. Numbers travel (membership.ts): never reuse one. */
export const refusals = { unknown: 1, wrong: 2, used: 3, expired: 4, burnt: 5 } as const
export type Refusal = keyof typeof refusals

export type InviteAnswer = { granted: true; proof: Buffer; sealed: Buffer } | { granted: false; why: Refusal }

const states = { open: 0, granted: 1, used: 2, burnt: 3 } as const

interface Record {
  state: number
  wrong: number
  token: Buffer
  circle: Buffer
  grantedTo: Buffer
  expires: number
}

export function inviteCode(token: Buffer): string {
  const check = hash('kith invite check', token).readUInt32LE(0) & ((1 << checkBits) - 1)
  let bits = (BigInt(`0x${token.toString('hex')}`) << BigInt(checkBits)) | BigInt(check)
  let text = ''
  for (let i = 0; i < codeLength; i++) {
    text = alphabet.charAt(Number(bits & 31n)) + text
    bits >>= 5n
  }
  return text.replace(/(.{5})(?=.)/g, '$1-')
}

/**
 * The token of a typed code; case, spaces and dashes do not matter.
 * @throws KithError usage, saying what is wrong with it
 */
export function inviteToken(code: string): Buffer {
  const typed = code.slice(0, 4096).replace(/[\s-]/g, '').toUpperCase()
  const text = typed.replace(/[IL]/g, '1').replace(/O/g, '0')
  const strange = [...text].find((character) => !alphabet.includes(character))
  if (strange !== undefined) throw badCode(`'${strange}' cannot be part of a code`)
  if (text.length !== codeLength) throw badCode(`it has ${text.length} characters instead of ${codeLength}`)
  let bits = 0n
  for (const character of text) bits = (bits << 5n) | BigInt(alphabet.indexOf(character))
  const token = Buffer.from((bits >> BigInt(checkBits)).toString(16).padStart(tokenBytes * 2, '0'), 'hex')
  if (inviteCode(token).replaceAll('-', '') !== text) throw badCode('a character in it is mistyped')
  return token
}

function badCode(reason: string): KithError {
  return new KithError('usage', `this is not an invite code: ${reason}; check it against the original`)
}

export function inviteTopic(token: Buffer): Buffer {
  return hash('kith invite topic', token)
}

function mac(token: Buffer, what: 'kith invite join' | 'kith invite grant', session: InviteSession): Buffer {
  const { handshakeHash, joiner, inviter } = session
  return keyedHash(hash('kith invite key', token), what, handshakeHash, joiner, inviter)
}

function sealingKey(token: Buffer, session: InviteSession): Buffer {
  return keyedHash(hash('kith invite key', token), 'kith invite seal', session.handshakeHash)
}

/** What the joiner sends, beside the topic. */
export function joinProof(token: Buffer, session: InviteSession): Buffer {
  return mac(token, 'kith invite join', session)
}

/**
 * The joiner's side of a grant.
 * @throws KithError denied, when the other side does not know the token
 */
export function openGrant(token: Buffer, session: InviteSession, proof: Buffer, sealed: Buffer): Grant {
  const expected = mac(token, 'kith invite grant', session)
  if (proof.length !== hashBytes || !sodium.sodium_memcmp(proof, expected))
    throw new KithError('denied', 'the one who answers does not know this invite; nothing was joined')
  const plain = decryptUnder(sealingKey(token, session), session.inviter, sealed, 'granted invite')
  const from = new Reader(plain, 'granted invite')
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith made it')
  const secret = Buffer.from(from.slice(circleSecretBytes))
  const name = from.slice(from.u16()).toString('utf8')
  const inviterName = from.slice(from.u16()).toString('utf8')
  from.end()
  return { secret, name, inviterName }
}

/** The inviter's book of invites. */
export class Invites {
  private readonly table: Table<Buffer, Buffer>

  constructor(
    private readonly db: Database,
    private readonly clock: Clock,
  ) {
    this.table = db.table('invites', encodings.bytes, encodings.bytes)
  }

  /** A new invite to the circle. Durable when it resolves. */
  async create(
    circle: Circle,
    lifetimeMs = inviteLifetimeMs,
  ): Promise<{ code: string; expires: number; topic: Buffer }> {
    await this.forgetOld()
    if (this.table.count() >= maxInvites)
      throw new KithError('busy', `there are ${maxInvites} invites already; wait until some of them expire`)
    const token = randomBytes(tokenBytes)
    const topic = inviteTopic(token)
    const expires = this.clock.now() + lifetimeMs
    const record = {
      state: states.open,
      wrong: 0,
      token,
      circle: circleId(circle.secret),
      grantedTo: Buffer.alloc(publicKeyBytes),
      expires,
    }
    await this.db.transaction(() => this.table.put(topic, encodeRecord(record)))
    return { code: inviteCode(token), expires, topic }
  }

  /** Topics to announce, with the time (ms since 1970) until which: who comes late shall learn why it fails. */
  topics(): { topic: Buffer; until: number }[] {
    return [...this.table.range({ limit: maxInvites })].map(({ key, value }) => ({
      topic: Buffer.from(key),
      until: decodeRecord(value).expires + afterlifeMs,
    }))
  }

  /**
   * Judges a joiner's proof. What it changes (granted to, wrong proofs) is durable before it resolves.
   * @param circleOf the secret of a circle by its id; undefined when we have left it
   */
  async answer(
    topic: Buffer,
    proof: Buffer,
    session: InviteSession,
    inviterName: string,
    circleOf: (id: string) => CircleSecret | undefined,
  ): Promise<InviteAnswer> {
    const bytes = this.table.get(topic)
    if (bytes === undefined) return { granted: false, why: 'unknown' }
    const record = decodeRecord(bytes)
    if (record.state === states.burnt) return { granted: false, why: 'burnt' }
    if (!sodium.sodium_memcmp(proof, joinProof(record.token, session))) {
      record.wrong++
      if (record.wrong >= wrongProofsAllowed && record.state === states.open) record.state = states.burnt
      await this.save(topic, record)
      return { granted: false, why: 'wrong' }
    }
    const same = record.grantedTo.equals(session.joiner)
    if (record.state === states.used || (record.state === states.granted && !same))
      return { granted: false, why: 'used' }
    if (this.clock.now() >= record.expires) return { granted: false, why: 'expired' }
    const circle = circleOf(record.circle.toString('hex'))
    if (circle === undefined) return { granted: false, why: 'unknown' }
    await this.save(topic, { ...record, state: states.granted, grantedTo: session.joiner })
    return {
      granted: true,
      proof: mac(record.token, 'kith invite grant', session),
      sealed: encryptUnder(
        sealingKey(record.token, session),
        session.inviter,
        encodeGrant(circle, inviterName),
      ),
    }
  }

  /** The joiner has stored the secret: the invite is used up. */
  async confirm(topic: Buffer, joiner: Buffer): Promise<void> {
    const bytes = this.table.get(topic)
    if (bytes === undefined) return
    const record = decodeRecord(bytes)
    if (record.state !== states.granted || !record.grantedTo.equals(joiner)) return
    await this.save(topic, { ...record, state: states.used })
  }

  private async save(topic: Buffer, record: Record): Promise<void> {
    await this.db.transaction(() => this.table.put(topic, encodeRecord(record)))
  }

  private async forgetOld(): Promise<void> {
    const now = this.clock.now()
    const old = this.topics().filter(({ until }) => until <= now)
    if (old.length === 0) return
    await this.db.transaction(() => {
      for (const { topic } of old) this.table.remove(topic)
    })
  }
}

function encodeGrant(circle: CircleSecret, inviterName: string): Buffer {
  const name = Buffer.from(circle.name, 'utf8')
  const inviter = Buffer.from(inviterName, 'utf8')
  return new Writer(128)
    .u8(version)
    .raw(circle.secret)
    .u16(name.length)
    .raw(name)
    .u16(inviter.length)
    .raw(inviter)
    .finish()
}

function encodeRecord(record: Record): Buffer {
  return new Writer(92)
    .u8(version)
    .u8(record.state)
    .u8(Math.min(255, record.wrong))
    .u8(0)
    .raw(record.token)
    .raw(record.circle)
    .raw(record.grantedTo)
    .number(Math.max(0, Math.round(record.expires)))
    .finish()
}

function decodeRecord(bytes: Buffer): Record {
  const from = new Reader(bytes, 'invite record')
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  const state = from.u8()
  const wrong = from.u8()
  from.zero(1)
  const token = Buffer.from(from.slice(tokenBytes))
  const circle = Buffer.from(from.slice(hashBytes))
  const grantedTo = Buffer.from(from.slice(publicKeyBytes))
  const expires = from.number()
  from.end()
  return { state, wrong, token, circle, grantedTo, expires }
}
