/**
 * The roster: who our partners are, known and on line. Joins the network (who is there), the gate (what they are to
 * us) and sessions (what is said), and keeps what must survive a restart: partners met, their last addresses, DHT nodes
 * seen. Owns the topics that this node announces: one a circle, one an open invite, and one for every owner whose data
 * the vault holds, so that the owner finds us with nothing but its key.
 *
 * Stored in table `partners`, under the public key: partner-record.ts (at most 256; further ones are served, but not kept).
 * In table `network`, under `port`: our UDP port u16; under `nodes`: an address list.
 */
import type { Clock, Timer } from '../base/clock.js'
import { asKithError, KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { encodings, type Database, type Table } from '../blocks/database.js'
import type { KeyPair } from '../format/hash.js'
import { maxCircles } from '../format/head.js'
import { rendezvousTopic } from '../format/keys.js'
import { decodeAddresses, encodeAddresses, withAddress, type Address } from './addresses.js'
import type { Circle, CircleInfo, Circles } from './circle.js'
import { freePort } from './dht-node.js'
import { inviteToken, inviteTopic, type Invites } from './invite.js'
import { Gate } from './membership.js'
import { Network, type Connection } from './network.js'
import { decodePartner, encodePartner, type KnownPartner } from './partner-record.js'
import { Resting, type Rest } from './resting.js'
import { Session, type Answerer } from './session.js'
import type { Topic } from './topic.js'
import type { Peer, Peers, Permissions } from './types.js'

export interface RosterOptions {
  keyPair: KeyPair
  /** what this node calls itself */
  name: string
  bootstrap: string[]
  db: Database
  circles: Circles
  invites: Invites
  /** public keys of the owners whose data our vault holds */
  heldOwners(): Buffer[]
  /** whether our vault holds something for this key */
  holdsFor(key: Buffer): boolean
  /** what answers the requests of this peer */
  answererFor(key: Buffer, permissions: () => Permissions): Answerer
  /** whether the answerer makes agreements */
  agrees?: boolean
  /** whether an agreement with this key, of no circle of ours, stands */
  isBound?(key: Buffer): boolean
  /** whether this peer may come as a stranger of the open pool */
  welcomes?(key: Buffer, host: string | undefined): boolean
  clock: Clock
  log: Log
}

/** One peer that passed the gate. */
interface Live {
  gate: Gate
  session: Session
  ready: boolean
  rtt?: number
}

interface Joining {
  token: Buffer
  /** ids of those found under the invite's topic */
  candidates: Set<string>
  tried: Set<Gate>
  granted(gate: Gate, circle: Circle, inviterName: string): void
  denied(error: unknown): void
}

export type { KnownPartner } from './partner-record.js'

export const maxPartners = 256
const maxAddresses = 4
const maxHeldOwners = 1024
const maxCandidates = 8
/** Holders dialled in a recovery. */
const maxHolders = 64
const joinBoundMs = 30_000
/** After a refusal, so long for the true inviter to answer, too: anyone may announce the topic. */
const denialBoundMs = 1500
const refusedForMs = 10 * 60_000
const saveEveryMs = 10 * 60_000

export class Roster implements Peers {
  private readonly table: Table<Buffer, Buffer>
  private readonly state: Table<string, Buffer>
  private readonly partners = new Map<string, KnownPartner>()
  private readonly gates = new Map<string, Gate>()
  private readonly lives = new Map<string, Live>()
  private readonly topics = new Map<string, Topic>()
  private readonly listeners = new Set<() => void>()
  private readonly joins = new Set<Joining>()
  /** Strangers met under our topics, until when (monotonic ms) they are not dialled again. */
  private readonly refused = new Map<string, number>()
  readonly resting: Resting
  private saving: Timer | null = null
  private stopped = false

  private constructor(
    private readonly options: RosterOptions,
    private readonly network: Network,
  ) {
    this.resting = new Resting(options.db)
    this.table = options.db.table('partners', encodings.bytes, encodings.bytes)
    this.state = options.db.table('network', encodings.text, encodings.bytes)
    for (const { key, value } of this.table.range({ limit: maxPartners })) {
      const partner = decodePartner(Buffer.from(key), value)
      this.partners.set(partner.id, partner)
    }
    network.on('connection', (connection) => this.onConnection(connection))
    options.circles.on('added', (circle) => {
      this.refused.clear()
      this.announceCircle(circle)
    })
    for (const { key, id, addresses } of this.partners.values())
      if (!this.resting.of(id)) network.connect(key, addresses)
    for (const circle of options.circles.list()) this.announceCircle(circle)
    this.announceInvites()
    this.holdingsChanged()
    this.saveSoon()
  }

  /** Opens the network and starts to find partners. */
  static async open(options: RosterOptions): Promise<Roster> {
    const state = options.db.table('network', encodings.text, encodings.bytes)
    const stored = state.get('port')
    const port = stored?.length === 2 ? stored.readUInt16LE(0) : freePort()
    const network = await Network.open({
      keyPair: options.keyPair,
      bootstrap: options.bootstrap,
      port,
      nodes: decodeAddresses(state.get('nodes') ?? Buffer.alloc(0)),
      clock: options.clock,
      log: options.log,
    })
    return new Roster(options, network)
  }

  /** Sessions with partners that hold data for us: both are members of a circle. */
  online(): Peer[] {
    return this.ready(({ gate }) => gate.standing === 'member' && gate.theirs === 'member')
  }

  /** Sessions with all who may hold data of ours. */
  holders(): Peer[] {
    return this.ready(({ gate }) => gate.theirs === 'owner' || gate.theirs === 'member')
  }

  /** Sessions with all who would take an agreement of ours; those that we sought in the open pool are not among them. */
  takers(): Peer[] {
    return this.ready(({ gate }) => gate.theirs === 'member')
  }

  /** The session with a stranger of the open pool, or with who was one. */
  stranger(key: Buffer): Peer | undefined {
    const live = this.lives.get(key.toString('hex'))
    return live?.ready && live.gate.common.length === 0 ? live.session : undefined
  }

  strangerCount(): number {
    return this.ready(({ gate }) => gate.standing === 'stranger').length
  }

  /** Whether it shares a circle with us, or did when it was last seen. */
  isFriend(key: Buffer): boolean {
    const id = key.toString('hex')
    return (
      (this.lives.get(id)?.gate.common.length ?? 0) > 0 || (this.partners.get(id)?.circles.length ?? 0) > 0
    )
  }

  /** Who it is was decided anew: by an agreement, or by its end. */
  reconsider(key: Buffer): void {
    this.lives.get(key.toString('hex'))?.gate.reconsider()
  }

  /** Dials this peer for as long as it takes: an agreement binds us, and it may not be known yet. */
  seek(key: Buffer): void {
    if (!this.stopped) this.network.connect(key, this.partners.get(key.toString('hex'))?.addresses)
  }

  /** It is no partner any more: it is not dialled, and not listed. Durable when it resolves. */
  async forget(key: Buffer): Promise<void> {
    await this.options.db.transaction(() => this.table.remove(key))
    this.partners.delete(key.toString('hex'))
    this.network.disconnect(key)
    this.notify()
  }

  /** Nothing is left of it: it is dialled no more, but stays listed, and may come. Durable when it resolves. */
  async rest(key: Buffer, kind: Rest): Promise<void> {
    await this.resting.set(key, kind)
    this.network.disconnect(key)
  }

  /** It is dialled again. */
  async wake(key: Buffer): Promise<void> {
    await this.resting.end(key)
    this.seek(key)
  }

  /** Meets somebody found in the pool. */
  meet(key: Buffer, addresses: Address[]): void {
    if (!this.stopped) this.network.dialFound(key, addresses)
  }

  /** Ends what there is with a stranger. */
  part(key: Buffer): void {
    const live = this.lives.get(key.toString('hex'))
    if (!this.partners.has(key.toString('hex')) && (!live || live.gate.standing === 'stranger'))
      this.network.disconnect(key)
  }

  /** The address that a peer on line comes from, else the last known. */
  hostOf(key: Buffer): string | undefined {
    const id = key.toString('hex')
    const host = this.lives.get(id)?.gate.connection.stream.rawStream?.remoteHost
    return host ?? this.partners.get(id)?.addresses[0]?.host
  }

  /** Time of a round trip to a peer on line, ms: the least that was seen of the smoothed one; undefined: not measured. */
  roundTrip(key: Buffer): number | undefined {
    const live = this.lives.get(key.toString('hex'))
    const rtt = live?.gate.connection.stream.rawStream?.rtt
    if (live && rtt) live.rtt = Math.min(live.rtt ?? rtt, rtt)
    return live?.rtt
  }

  /** Announces this node under the topic, for one purpose; without a topic no longer. */
  offer(purpose: string, topic: Buffer | undefined): void {
    if (topic)
      this.announce(purpose, topic, () => {
        // Who offers is found by those who seek.
      })
    else void this.unannounce(purpose)
  }

  /** Looks once who is announced under the topic. */
  async look(topic: Buffer, found: (key: Buffer, addresses: Address[]) => void): Promise<void> {
    if (this.stopped) return
    const search = this.network.topic(topic, { announce: false, found })
    await search.settled
    await search.close()
  }

  peer(key: Buffer): Peer | undefined {
    const live = this.lives.get(key.toString('hex'))
    return live?.ready ? live.session : undefined
  }

  onChange(run: () => void): () => void {
    this.listeners.add(run)
    return () => this.listeners.delete(run)
  }

  /** All partners ever met, on line or not, by first meeting. */
  known(): KnownPartner[] {
    return [...this.partners.values()].sort((a, b) => a.since - b.since || (a.id < b.id ? -1 : 1))
  }

  /** Whether this node has a network: somebody is on line, or the DHT answers. */
  get isConnected(): boolean {
    return this.ready(() => true).length > 0 || this.network.isReachable
  }

  isOnline(id: string): boolean {
    return this.lives.get(id)?.ready ?? false
  }

  /** Looks and dials anew: a user waits, or the network came back. */
  hurry(): void {
    this.network.hurry()
  }

  /** An invite was made: announce where the friend will look. */
  announceInvites(): void {
    const now = this.options.clock.now()
    for (const { topic, until } of this.options.invites.topics()) {
      if (until > now) this.announce(`invite ${topic.toString('hex')}`, topic)
      else void this.unannounce(`invite ${topic.toString('hex')}`)
    }
  }

  /** The vault's owners may have changed: announce for those whom we hold data for, and no longer for others. */
  holdingsChanged(): void {
    const wanted = new Map<string, Buffer>()
    for (const owner of this.options.heldOwners().slice(0, maxHeldOwners))
      if (!owner.equals(this.network.publicKey)) wanted.set(`owner ${owner.toString('hex')}`, owner)
    for (const name of this.topics.keys())
      if (name.startsWith('owner ') && !wanted.has(name)) void this.unannounce(name)
    for (const [name, owner] of wanted)
      this.announce(name, rendezvousTopic(owner), () => {
        // Others who hold data for the same owner are of no interest to us.
      })
  }

  /**
   * Joins a circle by a code.
   * @throws KithError usage (mistyped), denied (the inviter says why), noPartners (nobody answers)
   */
  async join(code: string): Promise<{ circle: CircleInfo; inviter: { id: string; name: string } }> {
    const token = inviteToken(code)
    const { clock } = this.options
    let topic: Topic | undefined
    let joining: Joining | undefined
    const timers: Timer[] = []
    try {
      return await new Promise((resolve, reject) => {
        const current: Joining = {
          token,
          candidates: new Set(),
          tried: new Set(),
          granted: (gate, circle, name) => {
            const done = () => resolve({ circle, inviter: { id: gate.connection.id, name } })
            this.whenAdmitted(gate, done, timers)
          },
          denied: (error) => timers.push(clock.after(denialBoundMs, () => reject(error as Error))),
        }
        joining = current
        this.joins.add(current)
        timers.push(clock.after(joinBoundMs, () => reject(nobodyAnswers())))
        topic = this.network.topic(inviteTopic(token), {
          announce: false,
          found: (key, addresses) => this.foundInviter(current, key, addresses),
        })
      })
    } finally {
      if (joining) this.joins.delete(joining)
      for (const timer of timers) timer.cancel()
      await topic?.close()
    }
  }

  /**
   * Looks for all who announce that they hold data of ours, and dials them, until the search is closed.
   * @param found told of each that is found, maybe several times
   */
  seekHolders(found: (id: string) => void): Topic {
    const announced = new Set<string>()
    return this.network.topic(rendezvousTopic(this.network.publicKey), {
      announce: false,
      found: (key, addresses) => {
        const id = key.toString('hex')
        if (!announced.has(id) && announced.size >= maxHolders) return
        announced.add(id)
        this.network.dialFound(key, addresses)
        found(id)
      },
    })
  }

  async stop(): Promise<void> {
    if (this.stopped) return
    this.stopped = true
    this.saving?.cancel()
    await this.save()
    for (const { session } of this.lives.values()) session.close('this node stops')
    await this.network.close()
  }

  private ready(wanted: (live: Live) => boolean): Peer[] {
    return [...this.lives.values()].filter((live) => live.ready && wanted(live)).map(({ session }) => session)
  }

  private notify(): void {
    if (!this.stopped) for (const run of [...this.listeners]) run()
  }

  // Topics

  private announce(name: string, topic: Buffer, found?: (key: Buffer, addresses: Address[]) => void): void {
    if (this.stopped || this.topics.has(name)) return
    this.topics.set(name, this.network.topic(topic, { announce: true, ...(found && { found }) }))
  }

  private async unannounce(name: string): Promise<void> {
    const topic = this.topics.get(name)
    this.topics.delete(name)
    await topic?.close()
  }

  private announceCircle(circle: Circle): void {
    this.announce(`circle ${circle.id}`, circle.topic, (key, addresses) => {
      const id = key.toString('hex')
      const until = this.refused.get(id) ?? 0
      const isSought = until <= this.options.clock.monotonic() && this.resting.of(id) !== 'ended'
      if (isSought) this.network.dialFound(key, addresses)
    })
  }

  // Connections

  private onConnection(connection: Connection): void {
    const { circles, invites, holdsFor, isBound, name, clock, log } = this.options
    const gate = new Gate(connection, {
      self: this.network.publicKey,
      circles,
      invites,
      name,
      holdsFor,
      ...(isBound && { isBound }),
      welcomes: (gate) =>
        this.options.welcomes?.(
          gate.connection.remotePublicKey,
          gate.connection.stream.rawStream?.remoteHost,
        ) ?? false,
      port: () => this.network.port,
      expectsJoiners: () => this.joins.size > 0 || this.expectsJoiners(),
      admitted: (admitted) => this.onAdmitted(admitted),
      changed: (changed) => this.onChanged(changed),
      refused: (refused) => this.onRefused(refused),
      clock,
      log,
    })
    this.gates.set(connection.id, gate)
    connection.stream.once('close', () => {
      if (this.gates.get(connection.id) === gate) this.gates.delete(connection.id)
    })
    for (const joining of this.joins) void this.tryJoin(joining, gate)
  }

  private expectsJoiners(): boolean {
    const now = this.options.clock.now()
    return this.options.invites.topics().some(({ until }) => until > now)
  }

  private onRefused({ connection }: Gate): void {
    this.network.refuse(connection.remotePublicKey)
    this.refused.set(connection.id, this.options.clock.monotonic() + refusedForMs)
    for (const oldest of this.refused.keys()) {
      if (this.refused.size <= 1024) break
      this.refused.delete(oldest)
    }
  }

  private onAdmitted(gate: Gate): void {
    const { id, remotePublicKey: key, stream } = gate.connection
    const { name, agrees = false, clock, log, holdsFor } = this.options
    const permissions = (): Permissions => ({
      member: gate.standing === 'member',
      stranger: gate.standing === 'stranger',
      get owner() {
        return holdsFor(key)
      },
    })
    const answerer = this.watched(this.options.answererFor(key, permissions))
    const isStranger = () => gate.standing === 'stranger' && gate.theirs === 'stranger'
    const session = new Session(stream, { answerer, name, lends: true, agrees, isStranger, clock, log })
    const live: Live = { gate, session, ready: false }
    this.lives.get(id)?.session.close('a newer connection takes its place')
    this.lives.set(id, live)
    const ready = () => {
      live.ready = true
      log.info(
        { peer: id, name: session.name, standing: gate.standing, ours: gate.theirs },
        'partner on line',
      )
      this.roundTrip(key)
      void this.remember(live).finally(() => this.notify())
    }
    session.ready.then(ready, () => undefined)
    void session.ended.then((reason) => {
      if (this.lives.get(id) !== live) return
      this.lives.delete(id)
      if (this.stopped) return
      log.info({ peer: id, reason }, 'partner off line')
      void this.remember(live).finally(() => this.notify())
    })
  }

  private onChanged(gate: Gate): void {
    const live = this.lives.get(gate.connection.id)
    if (live?.gate !== gate || !live.ready) return
    this.roundTrip(gate.connection.remotePublicKey)
    void this.remember(live).finally(() => this.notify())
  }

  /** Passes requests on, and sees when they change for whom the vault holds data. */
  private watched(answerer: Answerer): Answerer {
    return {
      answer: async (kind, message) => {
        try {
          return await answerer.answer(kind, message)
        } finally {
          if (kind === 'commit' || kind === 'headPut' || kind === 'release') this.holdingsChanged()
        }
      },
      put: (blocks) => answerer.put(blocks),
      settle: () => answerer.settle?.() ?? Promise.resolve(),
    }
  }

  // Joining

  private foundInviter(joining: Joining, key: Buffer, addresses: Address[]): void {
    const id = key.toString('hex')
    if (!joining.candidates.has(id) && joining.candidates.size >= maxCandidates) return
    joining.candidates.add(id)
    const gate = this.gates.get(id)
    if (gate) void this.tryJoin(joining, gate)
    else this.network.dialFound(key, addresses)
  }

  private async tryJoin(joining: Joining, gate: Gate): Promise<void> {
    if (!joining.candidates.has(gate.connection.id) || joining.tried.has(gate)) return
    joining.tried.add(gate)
    try {
      const grant = await gate.join(joining.token)
      const circle = await this.options.circles.add(grant, gate.connection.remotePublicKey)
      gate.confirm(joining.token)
      joining.granted(gate, circle, grant.inviterName)
    } catch (error) {
      this.options.log.info({ peer: gate.connection.id, reason: String(error) }, 'joining failed')
      // A connection that broke says nothing of the code: it is dialled again, and the same key may ask again.
      if (asKithError(error).code !== 'noPartners') joining.denied(error)
    }
  }

  /** Calls `done` when the peer is on line as a partner; after a few seconds anyway. */
  private whenAdmitted(gate: Gate, done: () => void, timers: Timer[]): void {
    const id = gate.connection.id
    const stop = this.onChange(() => {
      if (this.isOnline(id)) finish()
    })
    const finish = () => {
      stop()
      done()
    }
    timers.push(this.options.clock.after(5000, finish))
    if (this.isOnline(id)) finish()
  }

  // What survives a restart

  /** Keeps a partner's name, addresses and circles. Failing that (a full disk) costs nothing but memory of it. */
  private async remember({ gate, session }: Live): Promise<void> {
    const { connection, standing, theirs, common, port } = gate
    const known = this.partners.get(connection.id)
    if (!known && standing !== 'member' && theirs !== 'owner') return
    if (!known && this.partners.size >= maxPartners) {
      this.options.log.warn(
        { peer: connection.id },
        `not kept as a partner: there are ${maxPartners} already`,
      )
      return
    }
    const now = Math.max(0, Math.round(this.options.clock.now()))
    const host = connection.stream.rawStream?.remoteHost
    const addresses = known?.addresses ?? []
    const partner: KnownPartner = {
      key: connection.remotePublicKey,
      id: connection.id,
      name: session.name || (known?.name ?? ''),
      since: known?.since ?? now,
      lastSeen: now,
      circles:
        standing === 'member' ? common.map(({ id }) => id).slice(0, maxCircles) : (known?.circles ?? []),
      addresses: host && port > 0 ? withAddress(addresses, { host, port }, maxAddresses) : addresses,
    }
    this.partners.set(partner.id, partner)
    if (!this.stopped && !this.resting.of(partner.id)) this.network.connect(partner.key, partner.addresses)
    try {
      await this.options.db.transaction(() => this.table.put(partner.key, encodePartner(partner)))
    } catch (error) {
      this.options.log.warn({ err: error }, 'a partner could not be stored')
    }
  }

  private saveSoon(): void {
    const soon = this.state.has('nodes') ? saveEveryMs : 10_000
    this.saving = this.options.clock.after(soon, () => {
      this.announceInvites()
      void this.save().finally(() => {
        if (!this.stopped) this.saveSoon()
      })
    })
  }

  private async save(): Promise<void> {
    const port = Buffer.alloc(2)
    port.writeUInt16LE(this.network.port)
    const nodes = this.network.nodes()
    try {
      await this.options.db.transaction(() => {
        this.state.put('port', port)
        if (nodes.length > 0) this.state.put('nodes', encodeAddresses(nodes))
      })
    } catch (error) {
      this.options.log.warn({ err: error }, 'the state of the network could not be stored')
    }
  }
}

function nobodyAnswers(): KithError {
  return new KithError(
    'noPartners',
    "nobody answers this invite: the inviter's kith must be running, on the same network (--bootstrap), and the code fresh",
  )
}
