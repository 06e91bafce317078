/**
 * The partners of this node, as the daemon sees them: the one object that joins the parts of this folder.
 *
 *     roster      who is there, and what they are to us       (network, gate, sessions)
 *     agreements  what they and we promise each other; whom we send to, and how much we take
 *     pool        finds partners among strangers, and is found by them
 *     holder      a session's answers from our vault          (others' data)
 *     uploader    sends our blocks and heads to all           (our data there)
 *     auditor     makes them prove that they hold it
 *     fetcher     gets it back
 *     releases    tells them to let go of it; until a partner has been told, nothing is uploaded to it
 *     states      what each is by now: good, late, in grace, reneged, leaving, gone; and what follows
 *     placing     which blocks go to each partner, and which in stripes to some; what comes back from those
 *     keepers     who counts when bytes are let go of here
 *     book        what is known of each, on disk
 */
import { EventEmitter } from 'node:events'
import { asKithError } from '../base/errors.js'
import type { BlockReader } from '../blocks/block-store.js'
import { decodeHead } from '../format/head.js'
import type { Presence } from '../planning/hours.js'
import { counts, isLost, type StateName } from '../planning/partner-state.js'
import type { PlacePartner } from '../planning/placement.js'
import type { RepairPartner } from '../planning/repair.js'
import { Auditor, defaultBytesPerDay, type Audit } from './audit.js'
import type { Book } from './book.js'
import { candidatesOf, repairersOf } from './candidates.js'
import type { CircleInfo, CircleSecret } from './circle.js'
import { Fetcher } from './fetch.js'
import { heldBy } from './held.js'
import { isKeeper, Keepers, type Standing } from './keepers.js'
import { Listing } from './listing.js'
import type { PoolState } from './pool.js'
import { Pace } from './pace.js'
import { openParts, type Parts, type PartnersOptions } from './parts.js'
import { PendingReleases, type VolumeRelease } from './pending-releases.js'
import { Placing, type PlacementState } from './placing.js'
import { Reclaim, usualSilenceMs } from './reclaim.js'
import { findBackups, type Recovered } from './recovery.js'
import type {
  AuditInfo,
  AuditResult,
  Invite,
  Joined,
  PactChange,
  PartnerInfo,
  ReleaseResult,
  SwapInfo,
} from './reports.js'
import type { KnownPartner } from './roster.js'
import type { Damage, Peer, Peers } from './types.js'
import { Uploader } from './upload.js'

export type {
  AuditResult,
  Invite,
  Joined,
  PactChange,
  PartnerInfo,
  ReleaseResult,
  SwapInfo,
} from './reports.js'

interface Events {
  /** a partner came, went, or holds more than before */
  change: []
}

export class Partners extends EventEmitter<Events> {
  /** Blocks from whichever partners have them, verified. */
  readonly reader: BlockReader
  readonly keepers: Keepers
  private readonly book: Book
  private readonly releases: PendingReleases
  private readonly reclaim: Reclaim
  private readonly uploader: Uploader
  private readonly auditor: Auditor
  private readonly fetcher: Fetcher
  private readonly placing: Placing
  private readonly listing: Listing
  private readonly changed = new Set<() => void>()
  private stopping: Promise<void> | null = null

  private constructor(
    private readonly options: PartnersOptions,
    private readonly parts: Parts,
  ) {
    super()
    const { roster, agreements, book } = parts
    const { clock, log, owned, identity, auditEveryMs } = options
    this.book = book
    this.releases = new PendingReleases(parts.db, identity.keyPair, this.book, owned)
    const peers: Peers = {
      online: () =>
        roster.online().filter((peer) => !this.releases.waits(peer.key) && agreements.sendsTo(peer)),
      onChange: (run) => this.onChange(run),
      hurry: () => roster.hurry(),
    }
    const isCommitted = (key: Buffer) => parts.states.committedUntil(key) > 0
    const holders: Peers = {
      // Of one whose commitment runs, nothing is asked.
      online: () => roster.holders().filter(({ key }) => !isCommitted(key)),
      onChange: (run) => this.onChange(run),
      hurry: () => roster.hurry(),
    }
    this.reclaim = new Reclaim({
      ...parts,
      ...{ log, vault: options.vault, policy: options.policy },
      leastSilenceMs: () => options.leastSilenceMs?.() ?? usualSilenceMs,
      waits: (key) => this.releases.waits(key),
    })
    const pace = new Pace(clock, () => options.limitUp?.())
    const owner = identity.keyPair
    const onFault = (key: Buffer, kind: Damage, block?: Buffer) => void this.onFault(key, kind, block)
    this.fetcher = new Fetcher({ peers: holders, clock, log, onFault, patienceMs: options.patienceMs })
    this.placing = new Placing({
      ...{ db: parts.db, identity, owned, book, fetcher: this.fetcher, clock, log },
      policy: () => options.placement?.() ?? 'replica',
      candidates: () => this.candidates(),
      repairers: (isFresh) => this.repairers(isFresh),
      graceMs: () => options.policy().terms.grace * 1000,
      partners: () => this.countedOn().map(({ key }) => key),
      onFault: (key, kind, shard) => void this.noteFault(key, kind, shard),
      onPlaced: () => this.uploader.wake(),
    })
    const { placement } = this.placing
    this.uploader = new Uploader({ peers, blocks: owned, book, placement, owner, pace, clock, log }, () =>
      this.emit('change'),
    )
    this.auditor = new Auditor({
      peers,
      blocks: owned,
      book,
      placement,
      owner: identity.id,
      intervalMs: auditEveryMs,
      bytesPerDay: options.auditBytesPerDay ?? defaultBytesPerDay,
      clock,
      log,
      onRepair: () => this.uploader.wake(),
      onAudit: (key, outcome) => parts.states.audited(key, outcome),
      honours: (key) => !isCommitted(key),
      isPressing: (key) => parts.states.get(key).state !== 'good',
    })
    this.reader = this.placing.reader
    const standings = () => roster.known().map((partner) => this.standing(partner))
    this.keepers = new Keepers(book, standings, clock, placement)
    this.listing = this.openListing()
    roster.onChange(() => this.onRoster())
    this.onRoster()
  }

  /** @throws KithError noSpace, internal (no UDP port) */
  static async start(options: PartnersOptions): Promise<Partners> {
    // They may speak before all is there.
    const joined: { partners?: Partners } = {}
    const parts = await openParts(options, {
      onAgreement: () => joined.partners?.onAgreement(),
      onState: (key, after) => joined.partners?.onState(key, after),
      onLost: (key) => joined.partners?.onLost(key),
      onRenewed: (key) => joined.partners?.placing.placement.restart(key),
      onHour: () => joined.partners?.onHour(),
      isFilled: (to, from) => joined.partners?.isFilled(to, from) ?? false,
      isEmptied: (key) => joined.partners?.placing.stripes.isReadFrom(key) === false,
      onSwap: () => joined.partners?.placing.striper.wake(),
      countedOn: () => joined.partners?.countedOn() ?? [],
    })
    joined.partners = new Partners(options, parts)
    parts.pool.start()
    return joined.partners
  }

  list(): PartnerInfo[] {
    return this.listing.all()
  }

  /** When the partner (hex) was on line, as it was seen from here. */
  presence(partner: string): Presence {
    return this.parts.presences.of(Buffer.from(partner, 'hex'))
  }

  /** Sequence number of the volume's head that the partner (hex) acknowledged, with all blocks that it names; 0: none. */
  headHeld(partner: string, volume: Buffer): number {
    return this.book.head(Buffer.from(partner, 'hex'), volume)
  }

  /** How much of the vault's quota this owner may fill now. */
  room(owner: Buffer): number {
    return this.parts.agreements.room(owner)
  }

  /** The settings changed: what we offer and want goes to the partners. */
  policyChanged(): void {
    this.parts.agreements.settingsChanged()
    this.parts.pool.settingsChanged()
  }

  /** Until when this node announced to be away, ms since 1970; null: it did not. */
  get awayUntil(): number | null {
    return this.parts.absence.until
  }

  /** Announces it to the partners: those on line now, the others when they come. @param until 0: back */
  async away(until: number): Promise<{ id: string; name: string; until: number | undefined }[]> {
    const told = await this.parts.absence.announce(until)
    return this.parts.roster.known().map(({ key, id, name }) => {
      return { id, name, until: told.find((one) => one.key.equals(key))?.until }
    })
  }

  /** The exchange of a partner for a better one that is under way, with hex ids. */
  swap(): SwapInfo | null {
    const swap = this.parts.swaps.current
    if (!swap) return null
    return { ...swap, from: swap.from.toString('hex'), to: swap.to.toString('hex') }
  }

  /** How the search in the open pool stands. */
  pool(): PoolState {
    return this.parts.pool.state()
  }

  /**
   * A new agreement with this partner, of these sizes (bytes; as they are, when not given): now, or when it comes on line.
   * @param partner its name, or a beginning of its id
   * @throws KithError notFound, usage (which partner?)
   */
  async renegotiate(partner: string, sizes: { holds?: number; wants?: number }): Promise<PactChange> {
    const found = this.listing.find(partner)
    // Asked first: a partner at rest that is about to be dialled rests no more.
    const told = await this.parts.agreements.ask(found.key, sizes)
    if (this.parts.roster.resting.of(found.id)) await this.parts.roster.wake(found.key)
    return { partner: this.listing.of(found.id), told }
  }

  /** Ends the agreement. @throws KithError notFound, usage (which partner?) */
  async endAgreement(partner: string): Promise<PactChange> {
    const found = this.listing.find(partner)
    const told = await this.parts.agreements.end(found.key)
    return { partner: this.listing.of(found.id), told }
  }

  /** @param partner its name, or a beginning of its id. @throws KithError notFound, usage (which partner?) */
  partner(partner: string): PartnerInfo {
    return this.listing.of(this.listing.find(partner).id)
  }

  circles(): CircleInfo[] {
    return this.parts.circles.list().map(({ id, name, since, invitedBy }) => {
      return { id, name, since, ...(invitedBy !== undefined && { invitedBy }) }
    })
  }

  /** For the head's sealed owner state. */
  circleSecrets(): CircleSecret[] {
    return this.parts.circles.list().map(({ name, secret }) => ({ name, secret }))
  }

  /** @param circle its name or id. @throws KithError notFound, usage (several) */
  circleSecret(circle: string): CircleSecret {
    const { name, secret } = this.parts.circles.find(circle)
    return { name, secret }
  }

  /** @throws KithError usage (bad name), exists */
  createCircle(name: string): Promise<CircleInfo> {
    return this.parts.circles.create(name)
  }

  /** After a recovery: makes this node a member again. Known circles are left as they are. */
  async restoreCircles(circles: readonly CircleSecret[]): Promise<void> {
    for (const circle of circles) await this.parts.circles.add(circle)
  }

  /**
   * @param circle name or id; may be left out when there is exactly one
   * @throws KithError notFound, usage (which circle?), busy (too many invites)
   */
  async invite(circle?: string): Promise<Invite> {
    const found = this.parts.circles.find(circle)
    const { code, expires } = await this.parts.invites.create(found)
    this.parts.roster.announceInvites()
    return { code, expires, circle: found.name }
  }

  /** @throws KithError usage (mistyped), denied (used, expired, ...), noPartners (nobody answers) */
  async join(code: string): Promise<Joined> {
    const { circle, inviter } = await this.parts.roster.join(code)
    return { circle: this.circles().find(({ id }) => id === circle.id) ?? circle, inviter }
  }

  /** New blocks or heads are there: offer them to the partners now. Cheap; call it as often as you like. */
  wake(): void {
    this.placing.striper.wake()
    this.uploader.wake()
  }

  /** The owner's setting of how they are laid out counts, and no longer what a recovery found. */
  placementSet(): Promise<void> {
    return this.placing.pages.policySet()
  }

  /** How our blocks are laid out over partners now. */
  placement(): PlacementState {
    return this.placing.state()
  }

  /** A user waits: look for partners that are off line now, and do not wait for the next round. */
  hurry(): void {
    this.parts.roster.hurry()
  }

  /** Whether every known partner (at least one) holds all blocks up to the sequence, and that head or a newer one. */
  synced(sequence: number, head: Buffer): boolean {
    const { volumeId, sequence: number } = decodeHead(head)
    const partners = this.countedOn()
    return (
      partners.length > 0 &&
      partners.every(
        ({ key }) =>
          !this.releases.waits(key) &&
          this.book.holds(key, sequence) &&
          this.placing.placement.isSettled(key) &&
          this.placing.placement.isTold(key) &&
          this.book.head(key, volumeId) >= number,
      )
    )
  }

  /** The highest sequence of the volume's head that a partner acknowledged, 0 for none. */
  acknowledgedHead(volume: Buffer): number {
    return Math.max(0, ...this.parts.roster.known().map(({ key }) => this.book.head(key, volume)))
  }

  /** For each block, whether partners on line say that they have it, or enough of it. */
  held(names: readonly Buffer[]): Promise<boolean[]> {
    return heldBy(this.parts.roster.holders(), this.placing.stripes, names)
  }

  /**
   * Audits the partners that are on line now, besides the schedule.
   * @param full all blocks instead of a sample
   */
  async audit({ full }: { full: boolean }): Promise<AuditResult[]> {
    const none: Audit = { asked: 0, proven: 0, found: [] }
    return Promise.all(
      this.parts.roster.known().map(async ({ key, id, name }) => {
        const asked = await this.auditor.ask(key, full)
        const audit = asked ?? none
        const progress = this.book.progress(key)
        const trouble = this.listing.trouble(key)
        if (audit.found.includes('unreachable')) trouble.push('it did not answer')
        const { proven, found } = audit
        return {
          id,
          name,
          online: asked !== undefined,
          asked: audit.asked,
          proven,
          failed: found.length > 0 || progress.verdict.found.length > 0,
          trouble,
        }
      }),
    )
  }

  /** What audits find, and what they cost. Of the partners that hold something, the worst counts. */
  audits(): AuditInfo {
    return this.auditor.info(this.countedOn().map(({ key }) => key))
  }

  /**
   * Has every partner let go of one volume of ours or of everything, by signed requests; those off line are told when
   * they come back. What is released must be gone from the owner's store before.
   */
  async release(what: { volume: Buffer; blocks?: Buffer[] } | 'all'): Promise<ReleaseResult[]> {
    const partners = this.parts.roster.known()
    const noted: VolumeRelease | 'all' =
      what === 'all' ? 'all' : { volume: what.volume, blocks: what.blocks ?? [] }
    const keys = partners.map(({ key }) => key)
    await this.releases.add(keys, noted)
    await this.placing.released(what === 'all' ? what : (what.blocks ?? []))
    const results = await Promise.all(partners.map((partner) => this.tell(partner)))
    this.notify()
    return results
  }

  /**
   * Finds our own backups at whoever holds them, with nothing but the identity. Blocks then come by `reader`.
   * @throws KithError noPartners, notFound, damaged
   */
  async recover(signal?: AbortSignal): Promise<Recovered & { placement?: string }> {
    const { identity, clock, log } = this.options
    const { roster } = this.parts
    const found = await findBackups({ roster, identity, clock, log, ...(signal && { signal }) })
    return this.placing.recovered(found)
  }

  stop(): Promise<void> {
    this.stopping ??= this.shutDown()
    return this.stopping
  }

  private async shutDown(): Promise<void> {
    this.changed.clear()
    // The sessions end first: it is them that uploads and audits wait for.
    const parts = [
      this.parts.roster.stop(),
      this.uploader.stop(),
      this.auditor.stop(),
      this.parts.pool.stop(),
      this.placing.stop(),
    ]
    this.fetcher.stop()
    await Promise.all(parts)
    await this.parts.agreements.stop()
    await Promise.all([
      this.parts.swaps.stop(),
      this.parts.fellows.stop(),
      this.parts.attestations.stop(),
      this.parts.states.stop(),
      this.parts.presences.stop(),
      this.reclaim.stop(),
    ])
    await this.parts.db.close()
  }

  private onChange(run: () => void): () => void {
    this.changed.add(run)
    return () => this.changed.delete(run)
  }

  private notify(): void {
    for (const run of [...this.changed]) run()
    this.emit('change')
  }

  /** A session came, went or changed. */
  private onRoster(): void {
    for (const peer of this.parts.roster.holders()) if (this.releases.waits(peer.key)) void this.deliver(peer)
    this.parts.agreements.follow()
    this.parts.states.follow()
    this.parts.absence.follow()
    this.parts.fellows.follow()
    this.parts.concerns.follow()
    this.parts.attestations.follow()
    this.parts.pool.poke()
    this.placing.striper.wake()
    this.notify()
  }

  private onState(key: Buffer, after: StateName): void {
    if (this.stopping) return
    if (isLost({ state: after })) {
      this.onLost(key)
      this.parts.pool.hurry()
    }
    this.parts.pool.poke()
    this.placing.striper.wake()
    this.notify()
  }

  private onHour(): void {
    this.reclaim.run()
    void this.parts.swaps.follow()
    this.parts.attestations.follow()
  }

  private standing({ key, id, circles, lastSeen }: KnownPartner): { key: Buffer } & Standing {
    const { agreements, states, roster } = this.parts
    const isPartner = circles.length > 0 && !this.releases.waits(key)
    const isCommitted = states.committedUntil(key) > 0
    const isLeaving = agreements.isOver(key) || !counts(states.get(key)) || isCommitted
    return { key, isPartner, isLeaving, online: roster.isOnline(id), lastSeen }
  }

  /** Whether `to` holds all that `from` does, and has proven so much. */
  private isFilled(to: Buffer, from: Buffer): boolean {
    const { placement } = this.placing
    const known = this.parts.roster.known().find(({ key }) => key.equals(to))
    if (!known) return false
    const standing = { ...this.standing(known), isPartner: !this.releases.waits(to) }
    return (
      isKeeper(standing, this.book.progress(to), this.options.clock.now()) &&
      this.book.holds(to, this.book.progress(from).cursor) &&
      this.book.heads(from).every(({ volume, sequence }) => this.book.head(to, volume) >= sequence) &&
      placement.isSettled(to) &&
      placement.isTold(to)
    )
  }

  /** A friend that is lost stays. Of others we part, and the pool fills the place. */
  private onLost(key: Buffer): void {
    const { agreements } = this.parts
    if (this.stopping || !agreements.isBound(key) || agreements.isOver(key)) return
    agreements.end(key).catch((error: unknown) => this.options.log.warn({ err: error }, 'parting failed'))
  }

  /** How much goes to whom may have changed. */
  private onAgreement(): void {
    for (const key of this.parts.agreements.strangers().bound) this.parts.roster.reconsider(key)
    void this.parts.swaps.follow()
    this.reclaim.follow()
    this.parts.fellows.follow()
    this.parts.states.follow()
    this.parts.pool.poke()
    this.placing.striper.wake()
    this.notify()
    this.uploader.retry()
  }

  private countedOn(): KnownPartner[] {
    return this.parts.roster.known().filter((partner) => this.isCountedOn(partner))
  }

  private candidates(): PlacePartner[] {
    const refuses = (key: Buffer) => this.refuses(key) || this.parts.swaps.isLeft(key)
    return candidatesOf(this.countedOn(), this.parts, refuses, this.options.clock.now())
  }

  private repairers(isFresh: boolean): RepairPartner[] {
    const { roster, states, agreements, swaps } = this.parts
    const isLeft = (key: Buffer) => swaps.isLeft(key)
    const isCounted = (partner: KnownPartner) => this.isCountedOn(partner)
    const gives = (key: Buffer) => states.committedUntil(key) === 0
    const all = { roster, states, agreements, candidates: this.candidates(), isCounted, isLeft, gives }
    return repairersOf(roster.known(), all, isFresh)
  }

  private refuses(key: Buffer): boolean {
    return this.releases.waits(key) || this.uploader.trouble(key) !== undefined
  }

  /** Whether our backups are to be at this partner. */
  private isCountedOn({ key, circles }: KnownPartner): boolean {
    const isPartner = circles.length > 0 || this.parts.agreements.isBound(key)
    return isPartner && !this.parts.agreements.isOver(key) && counts(this.parts.states.get(key))
  }

  private async deliver(peer: Peer): Promise<string | undefined> {
    try {
      const bytes = await this.releases.deliver(peer)
      this.options.log.info({ peer: peer.key.toString('hex'), bytes }, 'released')
      this.notify()
      return undefined
    } catch (error) {
      const { message } = asKithError(error)
      this.options.log.warn({ peer: peer.key.toString('hex'), reason: message }, 'a release failed')
      return message
    }
  }

  private async tell({ key, id, name }: KnownPartner): Promise<ReleaseResult> {
    const peer = this.parts.roster.holders().find((one) => one.key.equals(key))
    const reason = peer ? await this.deliver(peer) : 'it is off line and will be told when it is back'
    return { id, name, released: reason === undefined, ...(reason !== undefined && { reason }) }
  }

  /** What the fetcher came upon. A block that is just not there is the auditor's matter: it knows what ought to be. */
  private async onFault(key: Buffer, kind: Damage, block?: Buffer): Promise<void> {
    if (kind !== 'missing' && kind !== 'unreachable') await this.noteFault(key, kind, block)
  }

  private async noteFault(key: Buffer, kind: Damage, block?: Buffer): Promise<void> {
    if (this.stopping) return
    try {
      await this.book.found(key, kind, block ? [block] : [], this.options.clock.now())
    } catch (error) {
      this.options.log.warn({ err: error }, 'a fault of a partner could not be stored')
    }
  }

  private openListing(): Listing {
    const { parts, options } = this
    return new Listing({
      parts,
      clock: options.clock,
      heldFor: (key) => options.vault.held(key).bytes,
      pending: (partner) => (this.isCountedOn(partner) ? this.uploader.pendingBytes(partner.key) : 0),
      troubles: (key) => this.troublesOf(key),
      waits: (key) => this.releases.waits(key),
    })
  }

  private troublesOf(key: Buffer): string[] {
    const { agreements, roster } = this.parts
    const refusal = this.uploader.trouble(key)
    return [
      ...(refusal === undefined ? [] : [refusal]),
      ...agreements.trouble(key, roster.resting.of(key.toString('hex')) !== undefined),
      ...this.reclaim.warnings(key),
      ...this.parts.concerns.warnings(key),
    ]
  }
}
