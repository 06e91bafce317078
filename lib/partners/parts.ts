/**
 * Opens the parts of partners.ts that live as long as the node, and tells each where the others are: they need each other in a
 * circle (who is on line asks who is bound, and the other way round), so what is asked comes once it is there.
 */
import { join } from 'node:path'
import type { Clock } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { Database } from '../blocks/database.js'
import { blockOverhead } from '../format/agreement.js'
import type { Identity } from '../format/keys.js'
import { counts, type StateName } from '../planning/partner-state.js'
import { ownAddresses } from './addresses.js'
import { OwnAbsence } from './absence.js'
import { Agreements } from './agreements.js'
import { Book, type Progress } from './book.js'
import { Circles } from './circle.js'
import { Attestations } from './attestations.js'
import { Concerns } from './concerns.js'
import { Fellows } from './fellows.js'
import { Holder } from './holder.js'
import { Invites } from './invite.js'
import type { Policy } from './negotiation.js'
import { Overlap } from './overlap.js'
import { Pool, type PoolSettings } from './pool.js'
import { Presences } from './presence.js'
import { Roster, type KnownPartner } from './roster.js'
import { States, termsOf } from './states.js'
import { Swaps } from './swaps.js'
import type { OwnedBlocks, PeersVault, Permissions } from './types.js'

export interface PartnersOptions {
  /** of our own: KITH_HOME/partners */
  dir: string
  identity: Identity
  /** what this node calls itself to its partners */
  name: string
  /** HOST:PORT, ...; none: the public DHT */
  bootstrap: string[]
  /** between audits of one partner */
  auditEveryMs: number
  /** bytes that audits of one partner take on average; as usual, when not given */
  auditBytesPerDay?: number
  /** what we offer and want in agreements, by the settings now */
  policy(): Omit<Policy, 'needs'>
  /** what is wanted of the open pool; nothing, when not given */
  pool?(): PoolSettings
  /** how blocks are laid out over partners (planning/placement.ts); `replica`, when not given */
  placement?(): string
  /** ms that a read waits for partners to come on line; as usual, when not given */
  patienceMs?: number
  /** bytes a second that may go out to all partners together now; undefined, or not given: no bound */
  limitUp?(): number | undefined
  vault: PeersVault & {
    owners(): { owner: Buffer }[]
    since(sequence: number, limit: number): { sequence: number; name: Buffer; bytes: number }[]
  }
  owned: OwnedBlocks
  clock: Clock
  /** ms that a friend's data is kept at least after it was last heard of; a year, when not given */
  leastSilenceMs?(): number
  /** counts the time of partners' states and of notices; `clock`, when not given */
  stateClock?: Clock
  log: Log
}

export interface Parts {
  db: Database
  book: Book
  circles: Circles
  invites: Invites
  roster: Roster
  agreements: Agreements
  states: States
  presences: Presences
  pool: Pool
  absence: OwnAbsence
  fellows: Fellows
  concerns: Concerns
  attestations: Attestations
  swaps: Swaps
}

/** What follows from what the parts find. */
export interface Hooks {
  /** an agreement was made or ended */
  onAgreement(): void
  /** what a partner is to us is another than before */
  onState(key: Buffer, after: StateName): void
  /** it reneged or is gone, and an agreement with it stands */
  onLost(key: Buffer): void
  /** a new agreement after an end: nothing of ours may be left there */
  onRenewed(key: Buffer): Promise<void> | undefined
  /** by the hour, while there is a network */
  onHour(): void
  /** whether `to` holds all that `from` does, and has proven it; no stripe is read from it */
  isFilled(to: Buffer, from: Buffer): boolean
  isEmptied(key: Buffer): boolean
  /** from whom elements are moved away is another than before */
  onSwap(): void
  /** partners that our backups are to be at */
  countedOn(): KnownPartner[]
}

interface Joined {
  roster?: Roster
  states?: States
  pool?: Pool
  fellows?: Fellows
  concerns?: Concerns
  attestations?: Attestations
}

/** @throws KithError noSpace, internal (no UDP port) */
export async function openParts(options: PartnersOptions, hooks: Hooks): Promise<Parts> {
  const { clock, log, identity } = options
  const db = Database.open(join(options.dir, 'db'))
  try {
    const circles = new Circles(db, clock)
    const invites = new Invites(db, clock)
    const book = new Book(db)
    const joined: Joined = {}
    const agreements = openAgreements(options, { db, book, joined, hooks })
    const roster = await openRoster(options, { db, circles, invites, agreements, joined })
    joined.roster = roster
    const states = openStates(options, { db, book, roster, agreements, hooks })
    joined.states = states
    const presences = openPresences(options, { db, roster })
    const swaps = openSwaps(options, { db, book, agreements, states, joined, hooks })
    const attestations = openAttestations(options, { db, roster, agreements, states })
    joined.attestations = attestations
    const pool = new Pool({
      self: identity.id,
      roster,
      agreements,
      states,
      attestations,
      presences,
      overlap: new Overlap(options.owned, options.vault, clock),
      swaps,
      needs: (key) => quotaOf(book.progress(key)),
      stateClock: options.stateClock ?? clock,
      settings: () => options.pool?.() ?? { open: false, partners: 0, region: '' },
      policy: options.policy,
      addresses: ownAddresses,
      clock,
      log,
    })
    joined.pool = pool
    const absence = new OwnAbsence({
      db,
      self: identity.keyPair,
      peers: () => roster.online(),
      clock: options.stateClock ?? clock,
      log,
    })
    const concerns = openConcerns(options, { roster, hooks })
    joined.concerns = concerns
    const fellows = openFellows(options, { db, roster, agreements, states, concerns, hooks })
    joined.fellows = fellows
    return {
      ...{ db, book, circles, invites, roster, agreements, states, presences, pool, absence, fellows },
      concerns,
      swaps,
      attestations,
    }
  } catch (error) {
    await db.close()
    throw error
  }
}

function openAgreements(
  { identity, policy, vault, clock, stateClock, log }: PartnersOptions,
  { db, book, joined, hooks }: Pick<Parts, 'db' | 'book'> & { joined: Joined; hooks: Hooks },
): Agreements {
  const isFriend = (key: Buffer) => joined.roster?.isFriend(key) ?? false
  return new Agreements({
    db,
    self: identity.keyPair,
    policy: (key) => {
      const strict = { ...policy(), needs: quotaOf(book.progress(key)) }
      const usual = isFriend(key) ? { ...strict, terms: { ...strict.terms, commitment: 0 } } : strict
      return isFriend(key) ? usual : (joined.pool?.policyFor(key, usual) ?? usual)
    },
    members: () => joined.roster?.takers() ?? [],
    isFriend,
    renewed: (key) => book.emptied(key).then(() => hooks.onRenewed(key)),
    free: async (key) => {
      await vault.evict(key)
      joined.roster?.holdingsChanged()
    },
    changed: () => hooks.onAgreement(),
    clock,
    tickClock: stateClock ?? clock,
    log,
  })
}

function openRoster(
  options: PartnersOptions,
  parts: Pick<Parts, 'db' | 'circles' | 'invites' | 'agreements'> & { joined: Joined },
): Promise<Roster> {
  const { vault, identity, owned, clock, log } = options
  const { db, circles, invites, agreements, joined } = parts
  return Roster.open({
    keyPair: identity.keyPair,
    name: options.name,
    bootstrap: options.bootstrap,
    db,
    circles,
    invites,
    heldOwners: () => vault.owners().map(({ owner }) => owner),
    holdsFor: (key) => vault.knows(key),
    answererFor: (key, permissions) =>
      new Holder(vault, key, () => within(permissions(), joined), agreements.answersFor(key), {
        ...(joined.fellows && { fellows: joined.fellows.answersFor(key) }),
        missed: (message) => joined.concerns?.hear(key, message) ?? {},
        attested: () => joined.attestations?.answer(key) ?? { own: undefined, shown: [] },
        pool: (query) => joined.pool?.answer(query) ?? Promise.reject(starting()),
        away: async (notice) => joined.states?.heard(key, notice) ?? 0,
        refusesUntil: () => joined.states?.refusesUntil(key) ?? 0,
        own: (name) => (joined.roster?.isFriend(key) ? owned.get(name) : Promise.resolve(undefined)),
      }),
    agrees: true,
    isBound: (key) => agreements.isBound(key),
    welcomes: (key, host) =>
      joined.fellows?.isFellow(key) === true || (joined.pool?.welcomes(key, host) ?? false),
    clock,
    log,
  })
}

function openStates(
  { policy, identity, stateClock, clock, log }: PartnersOptions,
  {
    db,
    book,
    roster,
    agreements,
    hooks,
  }: Pick<Parts, 'db' | 'book' | 'roster' | 'agreements'> & { hooks: Hooks },
): States {
  return new States({
    self: identity.id,
    db,
    partners: () => roster.known().map(({ key, id, since }) => ({ key, since, online: roster.isOnline(id) })),
    commitments: (key) => agreements.info(key),
    terms: (key) => termsOf(agreements.info(key)?.theirs, policy().terms.grace),
    agreement: (key) => {
      const pact = agreements.info(key)
      return pact && { number: pact.number, isOver: pact.standing !== 'active' }
    },
    isEmpty: (key) => book.progress(key).cursor === 0,
    isConnected: () => roster.isConnected,
    changed: (key, after) => hooks.onState(key, after),
    lost: (key) => hooks.onLost(key),
    ticked: () => hooks.onHour(),
    clock: stateClock ?? clock,
    log,
  })
}

function openSwaps(
  { stateClock, clock, log }: PartnersOptions,
  {
    db,
    book,
    agreements,
    states,
    joined,
    hooks,
  }: Pick<Parts, 'db' | 'book' | 'agreements' | 'states'> & { joined: Joined; hooks: Hooks },
): Swaps {
  const time = stateClock ?? clock
  return new Swaps({
    db,
    isPartner: (key) => agreements.promised(key).theirs > 0 && counts(states.get(key)),
    ageOf: (key) => Math.max(0, time.now() - states.get(key).bound),
    committedMs: (key) => Math.max(0, states.committedUntil(key) - time.now()),
    roomAt: (key) => ({ holds: agreements.promised(key).theirs, used: quotaOf(book.progress(key)) }),
    counts: () => joined.pool?.counts() ?? { have: 0, wanted: 0 },
    isBetter: (to, from) => joined.pool?.isBetter(to, from) ?? false,
    isFilled: (to, from) => hooks.isFilled(to, from),
    isEmptied: (key) => hooks.isEmptied(key),
    part: (key) => agreements.end(key),
    changed: () => hooks.onSwap(),
    clock: time,
    log,
  })
}

function openConcerns(
  { stateClock, clock, log }: PartnersOptions,
  { roster, hooks }: Pick<Parts, 'roster'> & { hooks: Hooks },
): Concerns {
  return new Concerns({
    online: () => roster.online(),
    peer: (key) => roster.peer(key),
    partners: () => hooks.countedOn(),
    hurry: () => roster.hurry(),
    clock: stateClock ?? clock,
    log,
  })
}

function openFellows(
  { identity, vault, stateClock, clock, log }: PartnersOptions,
  {
    db,
    roster,
    agreements,
    states,
    concerns,
    hooks,
  }: Pick<Parts, 'db' | 'roster' | 'agreements' | 'states' | 'concerns'> & { hooks: Hooks },
): Fellows {
  return new Fellows({
    db,
    identity,
    partners: () =>
      hooks.countedOn().map(({ key, addresses }) => {
        const { number = 0, until = null } = agreements.info(key) ?? {}
        return { key, addresses, agreement: number, until: until ?? 0 }
      }),
    online: () => roster.online(),
    peer: (key) => roster.peer(key),
    dial: (key, addresses) => roster.meet(key, addresses),
    part: (key) => roster.part(key),
    ageOf: (owner) => {
      const known = roster.known().find(({ key }) => key.equals(owner))
      if (!known) return undefined
      return roster.isOnline(known.id) ? 0 : (stateClock ?? clock).now() - states.get(owner).lastSeen
    },
    asked: (owner, asker) => concerns.raise(owner, asker),
    holdsFor: (owner) => vault.knows(owner),
    clock,
    log,
  })
}

function openAttestations(
  { identity, stateClock, clock, log }: PartnersOptions,
  { db, roster, agreements, states }: Pick<Parts, 'db' | 'roster' | 'agreements' | 'states'>,
): Attestations {
  const keeps = (key: Buffer) => !agreements.isOver(key) && counts(states.get(key))
  // Who is bound is no friend.
  const isPartner = (key: Buffer) => agreements.isBound(key) && keeps(key)
  return new Attestations({
    db,
    self: identity.keyPair,
    online: () => roster.online(),
    isPartner,
    isTrusted: (key) => (roster.isFriend(key) ? keeps(key) : states.record(key).kept > 0 && isPartner(key)),
    record: (key) => states.record(key),
    clock: stateClock ?? clock,
    log,
  })
}

/** Who is let in as a fellow only may not ask what strangers of the pool may. */
function within(permissions: Permissions, { pool }: Joined): Permissions {
  return {
    member: permissions.member,
    get owner() {
      return permissions.owner
    },
    stranger: permissions.stranger === true && pool?.deals === true,
  }
}

function openPresences(
  { stateClock, clock, log }: PartnersOptions,
  { db, roster }: Pick<Parts, 'db' | 'roster'>,
): Presences {
  return new Presences({
    db,
    partners: () => roster.known().map(({ key, id }) => ({ key, online: roster.isOnline(id) })),
    isConnected: () => roster.isConnected,
    clock: stateClock ?? clock,
    log,
  })
}

/** What a partner's quota is filled with. */
function quotaOf({ bytesHeld, blocksHeld }: Progress): number {
  return bytesHeld + blocksHeld * blockOverhead
}

function starting(): KithError {
  return new KithError('busy', 'this node is starting')
}
