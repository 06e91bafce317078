/**
 * The network: this node on the DHT. Owns the one hyperdht instance, the topics announced and looked up, and the live
 * Noise streams, at most one a peer. The only importer of hyperdht, with dht-node.ts. It proves who a peer is (its
 * Ed25519 key, by the Noise handshake) and says nothing about what it may do: that is membership.ts.
 *
 * One stream a peer. Both sides may dial, so two streams can cross. Of two in opposite directions both sides keep the
 * one that the smaller key dialled; of two in the same direction the newer. The one to be kept must first show life
 * (a decrypted frame): the first handshake message can be replayed by a relay, and the older stream may belong to a
 * process that was killed. Until that is known the newer one waits, unseen by anyone. A dial that opens when a stream of the peer's
 * stands and has shown life is given up before anything is sent on it, so that the peer cannot come to prefer it: what
 * stands is not replaced, under requests on their way, only because a dial took longer.
 *
 * Dialling goes on until the peer is there or no longer wanted, with a delay that doubles from 1 s to 5 min, and begins anew when
 * this machine wakes up or its addresses change. A dial tries the peer's last known addresses first and asks the DHT beside, so a
 * dead DHT does not part known partners.
 */
import { EventEmitter } from 'node:events'
import HyperDHT, { type NoiseStream, type Server } from 'hyperdht'
import { type Clock, systemClock, type Timer } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { randomBytes } from '../base/random.js'
import type { KeyPair } from '../format/hash.js'
import { isLoopback, Limiter, maxStoredAddresses, type Address } from './addresses.js'
import { watchClaims } from './claims.js'
import { endWhenSilent } from './silence.js'
import { Topic } from './topic.js'

export interface NetworkOptions {
  /** The owner's identity: the node's key on the DHT and in every Noise session. */
  keyPair: KeyPair
  /** HOST:PORT of the nodes to start from; none: the public HyperDHT. */
  bootstrap: string[]
  /** UDP port to listen on, if free: keeping it lets partners find us without a DHT. */
  port: number
  /** DHT nodes known from an earlier run. */
  nodes?: Address[]
  clock: Clock
  log: Log
}

/** A live stream to the peer whose key was proven. */
export interface Connection {
  readonly stream: NoiseStream
  readonly remotePublicKey: Buffer
  /** hex of the key */
  readonly id: string
  /** 64 bytes, the same on both sides and in no other session */
  readonly handshakeHash: Buffer
  /** whether we dialled */
  readonly initiator: boolean
}

interface Dialled {
  key: Buffer
  /** last known addresses, the best first */
  addresses: Address[]
  failures: number
  timer: Timer | null
  stream: NoiseStream | null
  /** dials left before it is given up; infinite for known partners */
  tries: number
}

interface NetworkEvents {
  /** a peer's stream stands; ends with the stream's own `close` event */
  connection: [Connection]
}

const maxConnections = 128
const maxDialled = 256
/** Strangers found under a topic are given up after so many dials, until they are found again. */
const triesForFound = 6
const firstDelay = 1000
const longestDelay = 5 * 60_000
/** Who was refused waits like one that could not be reached so many times: two minutes. */
const failuresOfRefused = 7
/** Between searches that a change of this machine's network began; a bad cable makes many changes. */
const changeBound = 10_000
const probeStep = 50
const probeBound = 1500
const dialBound = 15_000

export class Network extends EventEmitter<NetworkEvents> {
  readonly publicKey: Buffer
  private readonly id: string
  private readonly live = new Map<string, Connection>()
  private readonly dialled = new Map<string, Dialled>()
  private readonly topics = new Set<Topic>()
  private readonly strangers: Limiter
  private readonly knocks: Limiter
  private readonly claims: Limiter
  private readonly server: Server
  private readonly listening: Promise<void>
  private closing: Promise<void> | null = null
  private changed: Timer | null = null
  private changedAt = -Infinity

  private constructor(
    private readonly dht: HyperDHT,
    private readonly options: NetworkOptions,
  ) {
    super()
    this.publicKey = options.keyPair.publicKey
    this.id = this.publicKey.toString('hex')
    this.strangers = new Limiter(options.clock, { burst: 60, perMinute: 120, capacity: 1024 })
    this.knocks = new Limiter(options.clock, { burst: 10, perMinute: 20, capacity: 1024 })
    this.claims = new Limiter(options.clock, { burst: 1, perMinute: 1, capacity: 256 })
    this.server = dht.createServer(
      { firewall: (key, _payload, address) => this.refuses(key, address) },
      (stream) => void this.onStream(stream),
    )
    watchClaims(this.server, (key) => this.onFalseClaim(key))
    for (const event of ['network-change', 'wakeup']) dht.on(event, () => this.onChange())
    // Handshakes are answered from here on; the announcement under our key may take seconds when the DHT is dead.
    this.listening = this.server.listen(options.keyPair).then(
      () => undefined,
      (error: unknown) => options.log.warn({ error: String(error) }, 'announcing this node failed'),
    )
  }

  /** @throws KithError when no UDP port can be had */
  static async open(options: NetworkOptions): Promise<Network> {
    const dht = new HyperDHT({
      keyPair: options.keyPair,
      port: options.port,
      ...(options.bootstrap.length > 0 && { bootstrap: options.bootstrap }),
      ...(options.nodes && { nodes: options.nodes }),
      ...(isLoopback(options.bootstrap) && { host: '127.0.0.1' }),
    })
    try {
      await dht.bind()
    } catch (cause) {
      await dht.destroy({ force: true })
      throw new KithError('internal', `no UDP port can be had: ${String(cause)}`, { cause })
    }
    return new Network(dht, options)
  }

  /** The UDP port that we listen on. */
  get port(): number {
    return this.dht.io.serverSocket?.address().port ?? 0
  }

  /** DHT nodes to start from next time. */
  nodes(): Address[] {
    return this.dht.toArray({ limit: maxStoredAddresses })
  }

  /** Whether anybody in the DHT answers. */
  get isReachable(): boolean {
    return this.dht.online && this.dht.toArray({ limit: 1 }).length > 0
  }

  connections(): Connection[] {
    return [...this.live.values()]
  }

  connection(key: Buffer): Connection | undefined {
    return this.live.get(key.toString('hex'))
  }

  /**
   * Looks the topic up again and again (1 s, 2 s, ... 5 min apart), and announces us under it if told.
   * @param found called for every peer under the topic, at each round; dials it when not given
   */
  topic(
    topic: Buffer,
    options: { announce: boolean; found?: (key: Buffer, addresses: Address[]) => void },
  ): Topic {
    const found = options.found ?? ((key, addresses) => this.dialFound(key, addresses))
    const { clock, log, keyPair } = this.options
    const started = new Topic(topic, {
      dht: this.dht,
      server: this.server,
      keyPair,
      announce: options.announce,
      found: (key, addresses) => {
        if (!key.equals(this.publicKey)) found(key, addresses)
      },
      closed: () => this.topics.delete(started),
      clock,
      log,
    })
    this.topics.add(started)
    return started
  }

  /** Keeps a connection to this peer, from now on and for as long as it takes. */
  connect(key: Buffer, addresses: Address[] = []): void {
    this.dial(key, addresses, Infinity)
  }

  /** Dials somebody found under a topic; gives up after some tries. */
  dialFound(key: Buffer, addresses: Address[] = []): void {
    // The larger key waits a moment, so that two that find each other at once do not both dial.
    const delay = Buffer.compare(this.publicKey, key) < 0 ? 0 : 300
    this.dial(key, addresses, triesForFound, delay)
  }

  /** No longer dials this peer, and ends what there is. */
  disconnect(key: Buffer): void {
    const id = key.toString('hex')
    const peer = this.dialled.get(id)
    if (peer) {
      this.dialled.delete(id)
      peer.timer?.cancel()
      peer.stream?.destroy()
    }
    this.live.get(id)?.stream.destroy()
  }

  /** Ends what there is with a peer that was refused. A known one may have been too slow to say who it is: it is dialled again, later. */
  refuse(key: Buffer): void {
    const peer = this.dialled.get(key.toString('hex'))
    if (peer?.tries !== Infinity) return this.disconnect(key)
    peer.failures = failuresOfRefused
    this.connection(key)?.stream.destroy()
  }

  /** Looks up all topics and dials all wanted peers now: the network came back, or a user waits. */
  hurry(): void {
    for (const topic of this.topics) topic.hurry()
    for (const [id, peer] of this.dialled) {
      if (this.live.has(id) || peer.stream) continue
      peer.failures = 0
      this.schedule(peer, 0)
    }
  }

  /** This machine was asleep, or has other addresses than before. */
  private onChange(): void {
    if (this.closing || this.changed) return
    const { clock, log } = this.options
    const wait = Math.max(0, this.changedAt + changeBound - clock.monotonic())
    this.changed = clock.after(wait, () => {
      this.changed = null
      this.changedAt = clock.monotonic()
      log.info({}, 'the network of this machine changed: looking for partners')
      this.hurry()
    })
  }

  close(): Promise<void> {
    this.closing ??= this.shutDown()
    return this.closing
  }

  private async shutDown(): Promise<void> {
    this.changed?.cancel()
    for (const peer of this.dialled.values()) {
      peer.timer?.cancel()
      peer.stream?.destroy()
    }
    this.dialled.clear()
    await Promise.all([...this.topics].map((topic) => topic.close()))
    await Promise.all([...this.live.values()].map(({ stream }) => ended(stream, this.options.clock)))
    await this.dht.destroy({ force: true })
    await this.listening
  }

  /** The server's firewall: before a session stands. True refuses. */
  private refuses(key: Buffer, address: { host: string } | null): boolean {
    const id = key.toString('hex')
    if (this.closing || id === this.id) return true
    const known = this.dialled.get(id)?.tries === Infinity
    const refused =
      !this.knocks.take(id) ||
      (!known && (this.live.size >= maxConnections || !this.strangers.take(address?.host ?? '')))
    if (refused) this.options.log.info({ peer: id, host: address?.host }, 'refused a knock: too many')
    return refused
  }

  /** Told of those whom we look for; of others it says nothing to anybody. */
  private onFalseClaim(key: Buffer): void {
    const peer = key.toString('hex')
    if (this.dialled.get(peer)?.tries !== Infinity || !this.claims.take(peer)) return
    this.options.log.warn({ peer }, 'refused: somebody claims to be this partner, and cannot prove it')
  }

  private dial(key: Buffer, addresses: Address[], tries: number, delay = 0): void {
    const id = key.toString('hex')
    if (this.closing || id === this.id) return
    const known = this.dialled.get(id)
    if (known) {
      known.tries = Math.max(known.tries, tries)
      if (addresses.length > 0) known.addresses = addresses
      return
    }
    if (tries !== Infinity && this.dialled.size >= maxDialled) return
    const peer: Dialled = { key, addresses, failures: 0, timer: null, stream: null, tries }
    this.dialled.set(id, peer)
    if (!this.live.has(id)) this.schedule(peer, delay)
  }

  private schedule(peer: Dialled, delay: number): void {
    peer.timer?.cancel()
    peer.timer = this.options.clock.after(delay, () => {
      peer.timer = null
      void this.tryDial(peer)
    })
  }

  private async tryDial(peer: Dialled): Promise<void> {
    const id = peer.key.toString('hex')
    if (this.closing || peer.stream || this.live.has(id) || this.dialled.get(id) !== peer) return
    const stream = this.dht.connect(peer.key, {
      keyPair: this.options.keyPair,
      ...(peer.addresses.length > 0 && { relayAddresses: [...peer.addresses] }),
    })
    peer.stream = stream
    stream.on('error', ignore)
    const bound = this.options.clock.after(dialBound, () => stream.destroy())
    const opened = await stream.opened
    bound.cancel()
    peer.stream = null
    if (opened) {
      peer.failures = 0
      await this.onStream(stream)
    } else {
      peer.failures++
      peer.tries--
    }
    this.dialAgain(peer)
  }

  /** After a failed dial or a lost stream: waits, and dials again unless given up. */
  private dialAgain(peer: Dialled): void {
    const id = peer.key.toString('hex')
    if (this.closing || this.dialled.get(id) !== peer || this.live.has(id) || peer.timer) return
    if (peer.tries <= 0) {
      this.dialled.delete(id)
      return
    }
    const wait = Math.min(longestDelay, firstDelay * 2 ** Math.min(20, peer.failures))
    // Spread by up to a quarter, so that many nodes do not come back in step.
    this.schedule(peer, wait * (1 + randomBytes(1).readUInt8(0) / 1024))
  }

  private async onStream(stream: NoiseStream): Promise<void> {
    stream.on('error', ignore)
    if (this.closing) {
      stream.destroy()
      return
    }
    const id = stream.remotePublicKey.toString('hex')
    const old = this.live.get(id)
    if (old && stream.isInitiator && stands(old.stream)) {
      stream.destroy()
      return
    }
    endWhenSilent(stream, systemClock)
    stream.sendKeepAlive()
    if (!old) return this.adopt(stream, id)
    const winner = await this.settle(old.stream, stream)
    if (winner !== stream) {
      stream.destroy()
      return
    }
    this.live.get(id)?.stream.destroy()
    this.live.delete(id)
    if (stream.destroying || this.closing) stream.destroy()
    else this.adopt(stream, id)
  }

  /** Which of two streams to the same peer to keep; see the head of the file. */
  private async settle(old: NoiseStream, fresh: NoiseStream): Promise<NoiseStream> {
    const smaller = Buffer.compare(this.publicKey, fresh.remotePublicKey) < 0
    const preferFresh = old.isInitiator === fresh.isInitiator || fresh.isInitiator === smaller
    const oldRead = old.rawBytesRead
    if (!old.destroying) old.sendKeepAlive()
    for (let waited = 0; waited < probeBound; waited += probeStep) {
      if (old.destroying || fresh.destroying) break
      if (preferFresh && alive(fresh)) return fresh
      if (!preferFresh && old.rawBytesRead > oldRead) return old
      await new Promise<void>((resolve) => this.options.clock.after(probeStep, resolve))
    }
    return !fresh.destroying && alive(fresh) ? fresh : old
  }

  private adopt(stream: NoiseStream, id: string): void {
    const connection: Connection = {
      stream,
      id,
      remotePublicKey: stream.remotePublicKey,
      handshakeHash: stream.handshakeHash,
      initiator: stream.isInitiator,
    }
    this.live.set(id, connection)
    stream.once('close', () => {
      if (this.live.get(id) !== connection) return
      this.live.delete(id)
      const peer = this.dialled.get(id)
      if (peer) this.dialAgain(peer)
    })
    this.emit('connection', connection)
  }
}

/** Whether the peer answered within this session: dialled streams have, by the handshake itself. */
function alive(stream: NoiseStream): boolean {
  return stream.isInitiator || stream.rawBytesRead > 0
}

/** Whether it is the peer's own, and not older than our dial that opens now: who is live is not dialled. */
function stands(stream: NoiseStream): boolean {
  return !stream.isInitiator && !stream.destroying && stream.rawBytesRead > 0
}

/** Ends the stream, and waits until it is closed; half a second is allowed for what is under way. */
function ended(stream: NoiseStream, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const bound = clock.after(500, () => stream.destroy())
    stream.once('close', () => {
      bound.cancel()
      resolve()
    })
    if (stream.destroyed) resolve()
    stream.end()
  })
}

function ignore(): void {
  // A stream that fails closes, too, and that is what is acted upon.
}
