/**
 * Owners and holders in one process: real vaults and block stores on disk, real Noise streams and sessions, joined in
 * memory where the network is not the subject.
 */
import { EventEmitter } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NoiseStream } from 'hyperdht'
import type { Test } from 'tap'
import { type Clock, systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { BlockStore } from '../../lib/blocks/block-store.js'
import { Database } from '../../lib/blocks/database.js'
import { blocksWithin, countTo } from '../../lib/blocks/windows.js'
import { encodeHead } from '../../lib/format/head.js'
import { deriveIdentity, wrappedKeysBytes, type Identity } from '../../lib/format/keys.js'
import { blockName } from '../../lib/format/seal.js'
import { Book } from '../../lib/partners/book.js'
import { Holder } from '../../lib/partners/holder.js'
import { Pace } from '../../lib/partners/pace.js'
import { type Answerer, Session } from '../../lib/partners/session.js'
import type { OwnedBlocks, Peer, Peers, PeersVault, Permissions } from '../../lib/partners/types.js'
import { Removed } from '../../lib/store/removed.js'
import type { VaultOptions } from '../../lib/vault/types.js'
import { Vault } from '../../lib/vault/vault.js'
import { seededBytes } from './bytes.js'

interface RawStream {
  pipe(to: RawStream): RawStream
}

/** What a Noise handshake results in. */
interface Handshake {
  tx: Buffer
  rx: Buffer
  hash: Buffer
  publicKey: Buffer
  remotePublicKey: Buffer
}

interface NoiseStreams {
  new (
    isInitiator: boolean,
    rawStream: null,
    options: { keyPair: Identity['keyPair'] } | { handshake: Handshake },
  ): NoiseStream & { rawStream: RawStream }
}

// The class that hyperdht's connections are of, from wherever npm has put it for hyperdht.
const hyperdht = createRequire(createRequire(import.meta.url).resolve('hyperdht'))
const SecretStream = hyperdht('@hyperswarm/secret-stream') as NoiseStreams

export const roomy = 1024 * 1024 * 1024
/** Sends as fast as it goes. */
export const unbounded = () => new Pace(systemClock, () => undefined)

export const member = (): Permissions => ({ member: true, owner: true })

/** A folder that goes when the test ends. */
export function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'kith-test-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

export function identity(seed: number): Identity {
  return deriveIdentity(seededBytes(seeded(seed), 32))
}

export function block(
  random: () => number,
  length = 1 + (random() % 20_000),
): { name: Buffer; bytes: Buffer } {
  const bytes = seededBytes(random, length)
  return { name: blockName(bytes), bytes }
}

export function head(owner: Identity, sequence: number, volume = 1): Buffer {
  return encodeHead(
    {
      owner: owner.id,
      volumeId: Buffer.alloc(16, volume),
      sequence,
      time: sequence * 1000,
      blocks: 1,
      bytes: 1,
      snapshots: { name: Buffer.alloc(32, 7), sealedBytes: 100 },
      wrappedKeys: Buffer.alloc(wrappedKeysBytes, 1),
      sealedState: Buffer.alloc(50, 2),
    },
    owner,
  )
}

export async function openVault(
  t: Test,
  partner: Identity,
  options: Partial<VaultOptions> & { dir?: string } = {},
): Promise<Vault> {
  const vault = await Vault.open(options.dir ?? folder(t), {
    quotaBytes: roomy,
    partnerKey: partner.id,
    clock: systemClock,
    log: silentLog(),
    ...options,
  })
  t.teardown(() => vault.close())
  return vault
}

const kept = new WeakSet<Test>()

/** Streams in memory keep no process alive, nor do timers of a Clock. */
function stayAlive(t: Test): void {
  if (kept.has(t)) return
  kept.add(t)
  const alive = setInterval(() => undefined, 1000)
  t.teardown(() => clearInterval(alive))
}

/** Two ends of a Noise session, not yet spoken on. */
export function streams(t: Test, a: Identity, b: Identity): Promise<[NoiseStream, NoiseStream]> {
  const left = new SecretStream(true, null, { keyPair: a.keyPair })
  const right = new SecretStream(false, null, { keyPair: b.keyPair })
  return joined(t, left, right)
}

/** The same without the handshake, which takes milliseconds: for thousands of sessions. */
export function quickStreams(t: Test, a: Identity, b: Identity): Promise<[NoiseStream, NoiseStream]> {
  const [one, other, hash] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2), Buffer.alloc(64, 3)]
  const left = { tx: one, rx: other, hash, publicKey: a.id, remotePublicKey: b.id }
  const right = { tx: other, rx: one, hash, publicKey: b.id, remotePublicKey: a.id }
  return joined(
    t,
    new SecretStream(true, null, { handshake: left }),
    new SecretStream(false, null, { handshake: right }),
  )
}

type Piped = NoiseStream & { rawStream: RawStream }

async function joined(t: Test, left: Piped, right: Piped): Promise<[NoiseStream, NoiseStream]> {
  left.rawStream.pipe(right.rawStream).pipe(left.rawStream)
  for (const stream of [left, right]) stream.on('error', () => undefined)
  await Promise.all([left.opened, right.opened])
  stayAlive(t)
  t.teardown(() => {
    left.destroy()
    right.destroy()
  })
  return [left, right]
}

/** Answers nothing: the end of an owner who holds for nobody. */
export const refusing: Answerer = {
  put: () => Promise.resolve(),
  answer: () => Promise.reject(new Error('asked an owner that holds nothing')),
}

export function open(
  stream: NoiseStream,
  answerer: Answerer,
  options: { name?: string; clock?: Clock } = {},
): Session {
  return new Session(stream, {
    answerer,
    name: options.name ?? 'somebody',
    lends: answerer !== refusing,
    clock: options.clock ?? systemClock,
    log: silentLog(),
  })
}

/** A session from an owner to a holder's vault. */
export async function connect(
  t: Test,
  owner: Identity,
  holder: Identity,
  vault: PeersVault,
  permissions: () => Permissions = member,
): Promise<{ owner: Session; holder: Session }> {
  const [left, right] = await streams(t, owner, holder)
  const ends = {
    owner: open(left, refusing),
    holder: open(right, new Holder(vault, owner.id, permissions), { name: `holder ${holder.id[0] ?? 0}` }),
  }
  await Promise.all([ends.owner.ready, ends.holder.ready])
  return ends
}

export class TestPeers extends EventEmitter implements Peers {
  private readonly peers: Peer[] = []
  /** how often partners that are away were looked for */
  sought = 0

  add(session: Session): void {
    this.peers.push(session)
    void session.ended.then(() => {
      this.peers.splice(this.peers.indexOf(session), 1)
      this.emit('change')
    })
    this.emit('change')
  }
  online(): Peer[] {
    return [...this.peers]
  }
  onChange(run: () => void): () => void {
    this.on('change', run)
    return () => this.off('change', run)
  }
  hurry(): void {
    this.sought++
  }
}

/** An owner's store with nothing but blocks and heads in it. */
export class TestStore implements OwnedBlocks {
  readonly newest: Buffer[] = []

  private constructor(
    readonly store: BlockStore,
    private readonly gone: Removed,
  ) {}

  static async open(t: Test): Promise<TestStore> {
    const dir = folder(t)
    const db = Database.open(join(dir, 'index'))
    const store = await BlockStore.open(dir, { db, clock: systemClock, log: silentLog() })
    t.teardown(async () => {
      await store.close()
      await db.close()
    })
    return new TestStore(store, new Removed(db))
  }

  async add(blocks: readonly { name: Buffer; bytes: Buffer }[]): Promise<void> {
    for (const { name, bytes } of blocks) await this.store.put(name, bytes)
    await this.store.commit()
  }
  since(sequence: number, limit: number) {
    return this.store.since(sequence, limit)
  }
  within(range: { start: Buffer; end?: Buffer }, limit: number) {
    return blocksWithin(this.store, range, limit)
  }
  last(): number {
    return this.store.lastSequence
  }
  countTo(sequence: number): number {
    return countTo(this.store, sequence)
  }
  get(name: Buffer): Promise<Buffer | undefined> {
    return this.store.get(name)
  }
  /** Where blocks come from that were evicted. */
  elsewhere: (name: Buffer) => Promise<Buffer | undefined> = async () => undefined
  fetch(name: Buffer): Promise<Buffer | undefined> {
    return this.elsewhere(name)
  }
  heads(): Buffer[] {
    return this.newest
  }
  has(name: Buffer): boolean {
    return this.store.sequence(name) !== undefined || this.store.has(name)
  }
  isHere(name: Buffer): boolean {
    return this.store.isHere(name)
  }
  removed(after: number, limit: number) {
    return this.gone.since(after, limit)
  }
  lastRemoved(): number {
    return this.gone.last
  }
  removalsTold(number: number): Promise<void> {
    return this.gone.told(number)
  }

  /** As a prune takes blocks away. */
  take(names: readonly Buffer[]): Promise<void> {
    return this.store.takeOut(names, () => this.gone.add(names))
  }
}

export function openBook(t: Test, dir = folder(t)): Book {
  const db = Database.open(dir)
  t.teardown(() => db.close())
  return new Book(db)
}

/** A clock that moves only when told, for timeouts and schedules. */
export class TestClock implements Clock {
  private ms = 1_700_000_000_000
  private timers: { at: number; run: () => void }[] = []

  now(): number {
    return this.ms
  }
  monotonic(): number {
    return this.ms
  }
  after(ms: number, run: () => void) {
    const timer = { at: this.ms + ms, run }
    this.timers.push(timer)
    return {
      cancel: () => {
        this.timers = this.timers.filter((one) => one !== timer)
      },
    }
  }
  /** Nothing that falls due on the way is run. */
  jump(ms: number): void {
    this.ms += ms
  }
  /** Runs what falls due on the way, in order. */
  pass(ms: number): void {
    const end = this.ms + ms
    for (;;) {
      const [next] = this.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)
      if (!next) break
      this.timers = this.timers.filter((one) => one !== next)
      this.ms = Math.max(this.ms, next.at)
      next.run()
    }
    this.ms = end
  }
}
