/**
 * Circles: groups of people who back each other up. A circle is a secret of 32 bytes that its members share; whoever
 * knows it is a member. From it derive the topic under which members find each other on the DHT, and the proof of
 * membership (membership.ts). The secret itself travels only in an invite (invite.ts) and in the owner's sealed state.
 *
 * Stored in table `circles`, under the circle's id (hash('kith circle id', secret)):
 *
 *     [0]       version, 1
 *     [1]       1 when somebody invited us, else 0
 *     [2..34)   secret
 *     [34..66)  public key of who invited us, or zero
 *     [66..74)  since, ms since 1970: u64
 *     [74..76)  length of the name: u16; then the name, UTF-8
 */
import { EventEmitter } from 'node:events'
import type { Clock } from '../base/clock.js'
import { assert, KithError } from '../base/errors.js'
import { randomBytes } from '../base/random.js'
import { encodings, type Database, type Table } from '../blocks/database.js'
import { Reader, Writer } from '../format/bytes.js'
import { hash, publicKeyBytes } from '../format/hash.js'
import { maxCircles } from '../format/head.js'

export interface CircleInfo {
  /** hex of the circle's public id: hash('kith circle id', secret) */
  id: string
  name: string
  /** when this node created or joined it, ms since 1970 */
  since: number
  /** hex public key of the member whose invite was used; none for a circle created here */
  invitedBy?: string
}

/** What a recovery needs to be a member again; kept sealed in the head's owner state. */
export interface CircleSecret {
  name: string
  /** 32 bytes */
  secret: Buffer
}

export interface Circle extends CircleInfo, CircleSecret {
  /** where its members find each other on the DHT */
  topic: Buffer
}

export const circleSecretBytes = 32
/** UTF-8 bytes of a circle's name */
export const maxCircleNameBytes = 64
const version = 1

interface Events {
  /** a circle was created, joined or restored */
  added: [Circle]
}

export class Circles extends EventEmitter<Events> {
  private readonly table: Table<Buffer, Buffer>
  private known: Circle[] = []

  constructor(
    private readonly db: Database,
    private readonly clock: Clock,
  ) {
    super()
    this.table = db.table('circles', encodings.bytes, encodings.bytes)
    for (const { value } of this.table.range({ limit: maxCircles })) this.known.push(decodeCircle(value))
    this.sort()
  }

  /** By name. */
  list(): readonly Circle[] {
    return this.known
  }

  get(id: string): Circle | undefined {
    return this.known.find((circle) => circle.id === id)
  }

  /** @throws KithError usage (bad name), exists */
  async create(name: string): Promise<Circle> {
    const checked = checkedName(name)
    if (this.known.some((circle) => circle.name === checked))
      throw new KithError('exists', `there is a circle '${checked}' already; choose another name`)
    return this.add({ name: checked, secret: randomBytes(circleSecretBytes) })
  }

  /** Becomes a member by the secret; a circle that is known stays as it is. Durable when it resolves. */
  async add({ name, secret }: CircleSecret, invitedBy?: Buffer): Promise<Circle> {
    assert(secret.length === circleSecretBytes, 'circle secrets have 32 bytes')
    const known = this.get(circleId(secret).toString('hex'))
    if (known) return known
    if (this.known.length >= maxCircles)
      throw new KithError('usage', `this node is in ${maxCircles} circles, and more is not supported`)
    const value = encodeCircle(checkedName(name), secret, this.clock.now(), invitedBy)
    await this.db.transaction(() => this.table.put(circleId(secret), value))
    const circle = decodeCircle(value)
    this.known.push(circle)
    this.sort()
    this.emit('added', circle)
    return circle
  }

  /**
   * The circle that a user means.
   * @param text name or id (its first 8 digits suffice); undefined: the only one there is
   * @throws KithError notFound, usage
   */
  find(text?: string): Circle {
    const names = this.known.map((circle) => `'${circle.name}'`).join(', ')
    if (this.known.length === 0)
      throw new KithError('notFound', 'this node is in no circle; create one: kith circle create NAME')
    const matches = this.known.filter(
      (circle) =>
        text === undefined ||
        circle.name === text ||
        (text.length >= 8 && circle.id.startsWith(text.toLowerCase())),
    )
    const [first, second] = matches
    if (first === undefined)
      throw new KithError('notFound', `no circle is called '${text ?? ''}'; there are ${names}`)
    if (second === undefined) return first
    if (text === undefined) throw new KithError('usage', `say which circle; there are ${names}`)
    throw new KithError('usage', `several circles are called '${text}'; give the id that kith status shows`)
  }

  private sort(): void {
    this.known.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id < b.id ? -1 : 1))
  }
}

export function circleId(secret: Buffer): Buffer {
  return hash('kith circle id', secret)
}

/** @throws KithError usage */
function checkedName(name: string): string {
  const trimmed = name.trim().normalize('NFC')
  const bytes = Buffer.byteLength(trimmed, 'utf8')
  if (bytes === 0 || bytes > maxCircleNameBytes || /\p{C}/u.test(trimmed))
    throw new KithError(
      'usage',
      `a circle's name has 1 to ${maxCircleNameBytes} bytes and no control characters`,
    )
  return trimmed
}

function encodeCircle(name: string, secret: Buffer, since: number, invitedBy?: Buffer): Buffer {
  const bytes = Buffer.from(name, 'utf8')
  const out = new Writer(76 + bytes.length)
    .u8(version)
    .u8(invitedBy ? 1 : 0)
    .raw(secret)
  if (invitedBy) out.raw(invitedBy)
  else out.zero(publicKeyBytes)
  return out
    .number(Math.max(0, Math.round(since)))
    .u16(bytes.length)
    .raw(bytes)
    .finish()
}

function decodeCircle(bytes: Buffer): Circle {
  const from = new Reader(bytes, 'circle record')
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  const invited = from.u8() === 1
  const secret = Buffer.from(from.slice(circleSecretBytes))
  const inviter = from.slice(publicKeyBytes).toString('hex')
  const since = from.number()
  const name = from.slice(from.u16()).toString('utf8')
  from.end()
  return {
    id: circleId(secret).toString('hex'),
    topic: hash('kith circle topic', secret),
    name,
    secret,
    since,
    ...(invited && { invitedBy: inviter }),
  }
}
