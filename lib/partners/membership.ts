/**
 * The gate: what a connected peer is to us, decided before it gets to say anything else. One gate a connection.
 *
 * 1. Both say hello: one proof for each circle they are in, bound to this session and to both keys. A proof is of no
 *    use in any other session, and tells nothing to who does not share the circle.
 * 2. Each judges the other and says so: member (a proof fits one of our circles, or an agreement with this key stands), owner
 *    (no member, but our vault holds data for this key, as after the loss of its machine: it may get its own back and nothing
 *    else), stranger (we are in the open pool, and it may ask: pool.ts), or nobody.
 * 3. As soon as a side has given its verdict and heard the other's, and one of them is not nobody, the session may
 *    start; verdicts travel before it in the same stream, so both sides come to that by themselves and in time.
 *    Strangers are dealt with only when both say so.
 * 4. Nobody to each other: the connection ends. It is given a while when one of the two waits for an invite.
 *
 * What a side may do is always ruled by the other side's verdict about it, never by its own. Circles that come later
 * are proven by another hello; a verdict only ever rises.
 */
import type { Channel } from 'protomux'
import { asKithError, assert, KithError } from '../base/errors.js'
import type { Clock, Timer } from '../base/clock.js'
import type { Log } from '../base/log.js'
import type { Circle, Circles } from './circle.js'
import * as wire from './gate-wire.js'
import type { Standing } from './gate-wire.js'
import { joinProof, inviteTopic, openGrant, type Grant, type InviteAnswer, type Invites } from './invite.js'
import { muxOf } from './mux.js'
import type { Connection } from './network.js'

export interface GateOptions {
  /** our public key */
  self: Buffer
  circles: Circles
  invites: Invites
  /** what our node calls itself, for those it invites */
  name: string
  /** whether our vault holds something for this key */
  holdsFor(key: Buffer): boolean
  /** whether an agreement binds us to this key */
  isBound?(key: Buffer): boolean
  /** whether this peer may come as a stranger of the open pool; asked once, and counted */
  welcomes?(gate: Gate): boolean
  /** the UDP port we listen on */
  port(): number
  /** whether somebody may be about to join by an invite of ours */
  expectsJoiners(): boolean
  /** the peer may be dealt with: called once, and synchronously with the message that decides it */
  admitted(gate: Gate): void
  /** the circles in common, or a verdict, changed after that */
  changed(gate: Gate): void
  /** the connection ends here, nobody to each other */
  refused(gate: Gate): void
  clock: Clock
  log: Log
}

const deadlineMs = 10_000
/** Far more than circles can change; a peer that sends more wants to keep us busy. */
const maxMessages = 256

export class Gate {
  /** The circles that the peer has proven, by name. */
  common: Circle[] = []
  /** What the peer is to us. */
  standing: Standing = 'nobody'
  /** What we are to the peer, as it says; undefined: it has not said yet. */
  theirs: Standing | undefined
  /** The UDP port on which the peer says it listens; 0: none. */
  port = 0
  private said: Standing | undefined
  private isWelcome: boolean | undefined
  private proofs = new Set<string>()
  private admitted = false
  private messages = 0
  private joining: {
    topic: Buffer
    resolve: (answer: InviteAnswer) => void
    reject: (e: Error) => void
  } | null = null
  private readonly channel: Channel
  private readonly deadline: Timer
  private readonly onCircle = () => this.reconsider()

  constructor(
    readonly connection: Connection,
    private readonly options: GateOptions,
  ) {
    const { stream } = connection
    const handle = (run: (bytes: Buffer) => void | Promise<void>) => ({
      onmessage: (bytes: Buffer) => this.take(run, bytes),
    })
    const channel = muxOf(stream).createChannel({
      protocol: wire.gateProtocol,
      messages: [
        handle((bytes) => this.onHello(bytes)),
        handle((bytes) => this.onVerdict(bytes)),
        handle((bytes) => this.onJoin(bytes)),
        handle((bytes) => this.onAnswer(bytes)),
        handle((bytes) => this.onJoined(bytes)),
      ],
      onclose: () => this.end('the gate was closed'),
    })
    assert(channel !== null, 'one gate a connection')
    this.channel = channel
    this.deadline = options.clock.after(deadlineMs, () => this.refuse())
    options.circles.on('added', this.onCircle)
    stream.once('close', () => this.end('the connection ended'))
    channel.open()
    this.sayHello()
  }

  /**
   * Joins by an invite of the peer's.
   * @throws KithError denied (the peer says why), noPartners (it went away)
   */
  async join(token: Buffer): Promise<Grant> {
    const topic = inviteTopic(token)
    const session = this.sessionFor(this.options.self, this.connection.remotePublicKey)
    assert(this.joining === null, 'one invite at a time')
    const answer = await new Promise<InviteAnswer>((resolve, reject) => {
      this.joining = { topic, resolve, reject }
      this.send('join', wire.encodeJoin(topic, joinProof(token, session)))
    })
    if (!answer.granted) throw new KithError('denied', refusalTexts[answer.why])
    return openGrant(token, session, answer.proof, answer.sealed)
  }

  /** Tells the inviter that its grant is stored. */
  confirm(token: Buffer): void {
    this.send('joined', wire.encodeJoined(inviteTopic(token)))
  }

  /** Judges the peer again: our circles, or what our vault holds, changed. */
  reconsider(): void {
    if (this.channel.closed) return
    this.sayHello()
    if (this.said !== undefined) this.judge()
  }

  private sessionFor(joiner: Buffer, inviter: Buffer) {
    return { handshakeHash: this.connection.handshakeHash, joiner, inviter }
  }

  private send(message: keyof typeof wire.gateMessages, bytes: Buffer): void {
    if (!this.channel.closed) this.channel.messages[wire.gateMessages[message]]?.send(bytes)
  }

  private sayHello(): void {
    const { handshakeHash, remotePublicKey } = this.connection
    const proofs = this.options.circles
      .list()
      .map(({ secret }) => wire.membershipProof(secret, handshakeHash, this.options.self, remotePublicKey))
    this.send('hello', wire.encodeHello(proofs))
  }

  /** Whatever a peer sends, it costs its connection and nothing more. */
  private take(run: (bytes: Buffer) => void | Promise<void>, bytes: Buffer): void {
    const blame = (error: unknown) => {
      const { code, message } = asKithError(error)
      const peer = this.connection.id
      if (code === 'internal') this.options.log.error({ peer, err: error }, 'the gate failed')
      else this.options.log.info({ peer, reason: message }, 'the gate was misused')
      this.connection.stream.destroy()
    }
    try {
      if (++this.messages > maxMessages) throw new KithError('protocol', 'too many messages at the gate')
      run(bytes)?.catch(blame)
    } catch (error) {
      blame(error)
    }
  }

  private onHello(bytes: Buffer): void {
    this.proofs = new Set(wire.decodeHello(bytes).map((proof) => proof.toString('hex')))
    this.judge()
  }

  private judge(): void {
    const { handshakeHash, remotePublicKey } = this.connection
    const { circles, self, holdsFor, isBound, port } = this.options
    const common = circles.list().filter(({ secret }) => {
      const proof = wire.membershipProof(secret, handshakeHash, remotePublicKey, self)
      return this.proofs.has(proof.toString('hex'))
    })
    const news = common.length !== this.common.length
    this.common = common
    if (common.length > 0 || isBound?.(remotePublicKey)) this.standing = 'member'
    else if (isStrange(this.standing) && holdsFor(remotePublicKey)) this.standing = 'owner'
    else if (this.standing === 'nobody' && this.welcome()) this.standing = 'stranger'
    if (this.said !== this.standing) {
      this.said = this.standing
      this.send('verdict', wire.encodeVerdict(this.standing, isStrange(this.standing) ? 0 : port()))
    } else if (!news) return
    this.settle()
  }

  private welcome(): boolean {
    return (this.isWelcome ??= this.options.welcomes?.(this) ?? false)
  }

  private onVerdict(bytes: Buffer): void {
    const { standing, port } = wire.decodeVerdict(bytes)
    this.theirs = standing
    this.port = port
    this.settle()
  }

  private settle(): void {
    if (this.said === undefined || this.theirs === undefined) return
    const isTalk = this.said === 'stranger' && this.theirs === 'stranger'
    if (isStrange(this.said) && isStrange(this.theirs) && !isTalk) {
      if (this.joining === null && !this.options.expectsJoiners()) this.refuse()
      return
    }
    if (this.admitted) return this.options.changed(this)
    this.admitted = true
    this.deadline.cancel()
    this.options.admitted(this)
  }

  private refuse(): void {
    if (this.admitted || this.channel.closed) return
    this.options.log.info({ peer: this.connection.id }, 'refused: in no circle of ours')
    this.options.refused(this)
    this.connection.stream.destroy()
  }

  private async onJoin(bytes: Buffer): Promise<void> {
    const { topic, proof } = wire.decodeJoin(bytes)
    const { circles, invites, name, self, log } = this.options
    const session = this.sessionFor(this.connection.remotePublicKey, self)
    const answer = await invites.answer(topic, proof, session, name, (id) => circles.get(id))
    log.info(
      { peer: this.connection.id, result: answer.granted ? 'granted' : answer.why },
      'an invite was used',
    )
    this.send('answer', wire.encodeAnswer(answer))
  }

  private onAnswer(bytes: Buffer): void {
    const answer = wire.decodeAnswer(bytes)
    if (this.joining === null) throw new KithError('protocol', 'an answer to a join that was not sent')
    const { resolve } = this.joining
    this.joining = null
    resolve(answer)
  }

  private async onJoined(bytes: Buffer): Promise<void> {
    await this.options.invites.confirm(wire.decodeJoined(bytes), this.connection.remotePublicKey)
  }

  private end(reason: string): void {
    this.deadline.cancel()
    this.options.circles.off('added', this.onCircle)
    this.joining?.reject(new KithError('noPartners', `the inviter cannot be reached: ${reason}; try again`))
    this.joining = null
    if (!this.connection.stream.destroyed) this.connection.stream.destroy()
  }
}

function isStrange(standing: Standing): boolean {
  return standing === 'nobody' || standing === 'stranger'
}

const refusalTexts = {
  unknown: 'the one who answers does not know this invite; ask for a new code',
  wrong: 'the inviter refused this code; check it, or ask for a new one',
  used: 'this invite was used by somebody else already; ask for a new code',
  expired: 'this invite has expired; ask for a new code',
  burnt: 'this invite was blocked after too many wrong attempts; ask for a new code',
} as const
