/**
 * Partners' partners (format/wire-fellows.ts): gives each partner the list of all, sealed, and its fellows in the clear; keeps such
 * lists for others; asks the fellows when an owner was last on line, and answers them.
 *
 *     follow    partners are others than at the last list, or their addresses for an hour, or it is a week old: the next number, and every
 *               partner on line that has not got it is given its own
 *     put       an owner's list replaces one with a lower number only. A new machine of that owner may not know how far the numbers
 *               went: the reply says it, and the owner goes on from there
 *     ask       each fellow is dialled (the gate lets it in: that relation goes both ways) and asked; who said it was on line last
 *               counts. One that lies can put a term off, by no more than that term (planning/reclaim.ts)
 *
 * Crash argument: a number is on disk before a list with it goes out, so none is used twice; what a partner did not get, it gets in
 * the next session.
 *
 * Table `fellows`: `own` -> [0] version, 1   [1..9) number u64   [9..17) made, ms since 1970 u64   [17..49) hash of what is listed
 * Table `fellow lists`: owner -> its list, as it came; as long as the vault holds something for it
 */
import type { Clock } from '../base/clock.js'
import { asKithError, KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { encodings, type Database, type Table } from '../blocks/database.js'
import { Reader, Writer } from '../format/bytes.js'
import { hash, hashBytes } from '../format/hash.js'
import type { Identity } from '../format/keys.js'
import {
  decodeFellowList,
  encodeFellowList,
  maxListed,
  openPartnerList,
  sealPartnerList,
  type Fellow,
  type FellowList,
  type ListedPartner,
} from '../format/wire-fellows.js'
import { decodeAddresses, encodeAddresses, type Address } from './addresses.js'
import type { AnswerFellows, Peer } from './types.js'

export interface FellowsOptions {
  db: Database
  identity: Identity
  /** partners that our backups are to be at */
  partners(): { key: Buffer; addresses: Address[]; agreement: number; until: number }[]
  /** partners on line that take data of ours */
  online(): Peer[]
  /** the session with whoever is on line */
  peer(key: Buffer): Peer | undefined
  dial(key: Buffer, addresses: Address[]): void
  /** ends what there is with somebody who is no partner */
  part(key: Buffer): void
  /** ms since this owner was last on line here; undefined: it never was */
  ageOf(owner: Buffer): number | undefined
  /** a fellow asked after an owner */
  asked(owner: Buffer, asker: Buffer): void
  /** whether the vault holds something for it */
  holdsFor(owner: Buffer): boolean
  clock: Clock
  log: Log
}

interface Own {
  number: number
  made: number
  listed: Buffer
}

const version = 1
const hourMs = 3_600_000
const weekMs = 168 * hourMs
/** A number that a partner says it has counts when it is not from farther ahead: else one could use them all up. */
const aheadMs = 400 * 86_400_000
const askMs = 20_000
const stepMs = 100
/** On the ring of all partners, to either side. */
const reach = 2

export class Fellows {
  private readonly table: Table<string, Buffer>
  private readonly lists: Table<Buffer, Buffer>
  private readonly kept = new Map<string, { bytes: Buffer; list: FellowList }>()
  private readonly told = new WeakMap<Peer, number>()
  private own: Own
  private sealed: Buffer | undefined
  /** Of those in `sealed`. */
  private addresses: Buffer | undefined
  private working: Promise<void> = Promise.resolve()
  private stopped = false

  constructor(private readonly options: FellowsOptions) {
    this.table = options.db.table('fellows', encodings.text, encodings.bytes)
    this.lists = options.db.table('fellow lists', encodings.bytes, encodings.bytes)
    this.own = decodeOwn(this.table.get('own'))
    for (const { key, value } of this.lists.range()) {
      const bytes = Buffer.from(value)
      const list = readKept(bytes)
      if (list) this.kept.set(key.toString('hex'), { bytes, list })
    }
  }

  async stop(): Promise<void> {
    this.stopped = true
    await this.working
  }

  /** Sessions, agreements or addresses came, went or changed. Never throws. */
  follow(): void {
    this.working = this.working
      .then(() => this.give())
      .catch((error: unknown) => this.options.log.warn({ err: error }, 'partners were not given their list'))
  }

  /** Lets go of lists of owners of whom nothing is held. */
  async sweep(): Promise<void> {
    for (const { list } of [...this.kept.values()]) {
      if (this.options.holdsFor(list.owner) || this.options.peer(list.owner)) continue
      await this.options.db.transaction(() => this.lists.remove(list.owner))
      this.kept.delete(list.owner.toString('hex'))
    }
  }

  /** Whether it holds data of an owner of whom we hold some. */
  isFellow(key: Buffer): boolean {
    return [...this.kept.values()].some(({ list }) => has(list, key) && this.options.holdsFor(list.owner))
  }

  answersFor(peer: Buffer): AnswerFellows {
    return {
      isFellow: () => this.isFellow(peer),
      put: ({ list }) => this.put(peer, list),
      get: () => ({ list: this.kept.get(peer.toString('hex'))?.bytes ?? Buffer.alloc(0) }),
      seen: ({ owner }) => this.seen(peer, owner),
    }
  }

  /** Asks all fellows. @returns ms since one of them saw this owner on line, the least; undefined: nobody did */
  async ask(owner: Buffer): Promise<number | undefined> {
    const { list } = this.kept.get(owner.toString('hex')) ?? {}
    const ages = await Promise.all((list?.fellows ?? []).map((fellow) => this.askOne(fellow, owner)))
    const known = ages.filter((age) => age !== undefined)
    return known.length > 0 ? Math.min(...known) : undefined
  }

  private async put(owner: Buffer, bytes: Buffer): Promise<{ number: number }> {
    const list = decodeFellowList(bytes)
    if (!list.owner.equals(owner) || !list.partner.equals(this.options.identity.id))
      throw new KithError('denied', 'the list of partners is not from this partner to us')
    const id = owner.toString('hex')
    const before = this.kept.get(id)?.list.number ?? 0
    if (list.number <= before) return { number: before }
    const copy = Buffer.from(bytes)
    await this.options.db.transaction(() => this.lists.put(owner, copy))
    this.kept.set(id, { bytes: copy, list: decodeFellowList(copy) })
    return { number: list.number }
  }

  private seen(asker: Buffer, owner: Buffer): { ageMs: number } {
    const { list } = this.kept.get(owner.toString('hex')) ?? {}
    if (!list || !has(list, asker)) throw new KithError('denied', 'you are no partner of that owner')
    this.options.asked(owner, asker)
    const age = this.options.ageOf(owner)
    if (age === undefined) throw new KithError('notFound', 'that owner was never on line here')
    return { ageMs: Math.max(0, Math.round(age)) }
  }

  private async askOne({ key, addresses }: Fellow, owner: Buffer): Promise<number | undefined> {
    const { clock, log, peer, dial, part } = this.options
    const isHere = peer(key) !== undefined
    if (!isHere) dial(key, decodeAddresses(addresses))
    try {
      for (let waited = 0; !peer(key) && waited < askMs && !this.stopped; waited += stepMs)
        await new Promise<void>((resolve) => clock.after(stepMs, resolve))
      const fellow = peer(key)
      if (!fellow?.keepsLists) return undefined
      return (await fellow.request('seen', { owner })).ageMs
    } catch (error) {
      log.info({ peer: key.toString('hex'), reason: asKithError(error).message }, 'a fellow did not say')
      return undefined
    } finally {
      if (!isHere) part(key)
    }
  }

  // Our own list

  private async give(): Promise<void> {
    const { online, log } = this.options
    if (this.stopped) return
    const partners = this.partners()
    await this.renew(partners)
    for (const peer of online()) {
      if (this.stopped || !peer.keepsLists || this.told.get(peer) === this.own.number) continue
      if (!partners.some(({ key }) => key.equals(peer.key))) continue
      this.told.set(peer, this.own.number)
      // One that does not answer holds up nobody else.
      void this.tell(peer, partners).catch((error: unknown) => {
        this.told.delete(peer)
        const reason = asKithError(error).message
        log.info({ peer: peer.key.toString('hex'), reason }, 'a partner did not take its list')
      })
    }
  }

  private partners(): ListedPartner[] {
    const all = this.options.partners().map(({ addresses, ...rest }) => {
      return { ...rest, addresses: encodeAddresses(addresses.slice(0, 4)) }
    })
    return all.sort((a, b) => Buffer.compare(a.key, b.key)).slice(0, maxListed)
  }

  /** The next number, when what is listed is not what it was; durable when it resolves. */
  private async renew(partners: readonly ListedPartner[], atLeast = 0): Promise<void> {
    const { identity, clock } = this.options
    const listed = hash('kith fellows listed', ...partners.map(termsOf))
    const addresses = Buffer.concat(partners.map((partner) => partner.addresses))
    const now = Math.max(0, Math.round(clock.now()))
    const age = Math.abs(now - this.own.made)
    // An address may change all the time.
    const isOld = age > weekMs || (age > hourMs && this.addresses?.equals(addresses) !== true)
    const isSame = listed.equals(this.own.listed) && !isOld && this.own.number >= atLeast
    if (!isSame) {
      const number = Math.max(this.own.number + 1, now, atLeast)
      const own = { number, made: now, listed }
      const row = new Writer(64).u8(version).number(number).number(now).raw(listed).finish()
      await this.options.db.transaction(() => this.table.put('own', row))
      this.own = own
    } else if (this.sealed) return
    this.addresses = addresses
    this.sealed = sealPartnerList(identity.kek, identity.id, this.own.number, partners)
  }

  private async tell(peer: Peer, partners: readonly ListedPartner[]): Promise<void> {
    const { number, made } = this.own
    if (!this.sealed) return
    const fellows = fellowsOf(partners, peer.key)
    const content = { partner: peer.key, number, made, fellows, sealed: this.sealed }
    const reply = await peer.request('fellowsPut', {
      list: encodeFellowList(content, this.options.identity.keyPair),
    })
    const isBehind = reply.number > number && reply.number < this.options.clock.now() + aheadMs
    if (!isBehind || this.stopped) return
    // An earlier machine of ours came further.
    this.working = this.working.then(() => this.renew(this.partners(), reply.number + 1))
    this.follow()
  }
}

/**
 * The partners that a list of ours names, as a partner gave it back.
 * @throws KithError denied for a list that is not ours or not that partner's, damaged
 */
export function readOwnList(
  identity: Identity,
  partner: Buffer,
  bytes: Buffer,
): { number: number; partners: { key: Buffer; addresses: Address[] }[] } {
  const list = decodeFellowList(bytes)
  if (!list.owner.equals(identity.id) || !list.partner.equals(partner))
    throw new KithError('denied', 'the list of partners is not the one that was given to it')
  const partners = openPartnerList(identity.kek, list).map(({ key, addresses }) => {
    return { key, addresses: decodeAddresses(addresses) }
  })
  return { number: list.number, partners }
}

/** Its neighbours on the ring. */
export function fellowsOf(partners: readonly ListedPartner[], key: Buffer): Fellow[] {
  const at = partners.findIndex((one) => one.key.equals(key))
  const near = new Set<number>()
  for (let step = 1; step <= reach && at >= 0; step++)
    for (const i of [at - step, at + step]) near.add((i + step * partners.length) % partners.length)
  near.delete(at)
  return [...near].sort((a, b) => a - b).flatMap((i) => partners[i] ?? [])
}

function has({ fellows }: FellowList, key: Buffer): boolean {
  return fellows.some((fellow) => fellow.key.equals(key))
}

function termsOf({ key, agreement, until }: ListedPartner): Buffer {
  return new Writer(48).raw(key).number(agreement).number(until).finish()
}

/** One that does not read is as if it had been lost: the owner gives it again. */
function readKept(bytes: Buffer): FellowList | undefined {
  try {
    return decodeFellowList(bytes)
  } catch {
    return undefined
  }
}

/** Lost with the home: then numbers begin anew, by the clock. */
function decodeOwn(row: Buffer | undefined): Own {
  if (!row) return { number: 0, made: 0, listed: Buffer.alloc(hashBytes) }
  const from = new Reader(Buffer.from(row), 'record of the list of partners')
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  const own = { number: from.number(), made: from.number(), listed: from.slice(hashBytes) }
  from.end()
  return own
}
