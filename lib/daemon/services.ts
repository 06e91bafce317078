/**
 * What runs once a node has an identity: the store of its own blocks, the vault of others', the partners, the protected
 * directories and the upkeep. Here they are joined: none of them knows another.
 *
 *     store --OwnedBlocks--> partners      new blocks and heads are offered; `wake` when there are new ones
 *     vault <--sessions----- partners      others' blocks come in
 *     store, then partners --BlockReader--> snapshots, restore
 *     partners --keepers--> space          what they hold may be evicted here (space.ts)
 */
import type { Clock } from '../base/clock.js'
import { asKithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { BlockReader } from '../blocks/block-store.js'
import { blocksWithin, countTo } from '../blocks/windows.js'
import type { Identity } from '../format/keys.js'
import { Partners } from '../partners/partners.js'
import type { OwnedBlocks } from '../partners/types.js'
import { Store } from '../store/store.js'
import { Vault } from '../vault/vault.js'
import { policyOf, poolOf } from './agreement.js'
import type { Params, Result } from './api.js'
import { Browses } from './browse.js'
import type { Config } from './config.js'
import type { Home } from './home.js'
import { limitUpAt } from './limit.js'
import type { ProtectedVolume } from './protected-volume.js'
import { applyPolicy, rulesOf } from './retention.js'
import type { Schedule } from './schedule.js'
import { slowdown, Space } from './space.js'
import { Upkeep } from './upkeep.js'
import { Volumes } from './volumes.js'

const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** The first prune by itself, after the start; later ones by the settings. */
const firstPruneMs = 10 * 60_000
/** What a prune by itself copies at most to make segments whole; the next goes on. */
const compactAtOnce = 4 * 2 ** 30
/** What holds up the end of the daemon is ended itself: systemd waits no longer than 90 s. */
const lastSnapshotMs = 30_000

export class Services {
  readonly id: string
  readonly identity: Identity
  readonly home: Home
  readonly config: Config
  readonly clock: Clock
  readonly log: Log
  readonly store: Store
  readonly vault: Vault
  readonly partners: Partners
  readonly space: Space
  readonly volumes: Volumes
  readonly browses = new Browses()
  readonly upkeep: Upkeep
  readonly #stopping = new AbortController()
  /** took a snapshot, and the rules for what is kept were not applied since */
  readonly #unsorted = new Set<ProtectedVolume>()
  /** settings in use, which a change takes effect on only at the next start */
  readonly bootstrap: readonly string[]

  private constructor(
    { home, config, identity, clock, log }: Context,
    parts: { store: Store; vault: Vault; partners: Partners; space: Space },
  ) {
    this.id = identity.id.toString('hex')
    this.identity = identity
    this.home = home
    this.config = config
    this.clock = clock
    this.log = log
    this.bootstrap = config.settings.bootstrap
    this.store = parts.store
    this.vault = parts.vault
    this.partners = parts.partners
    this.space = parts.space
    this.volumes = new Volumes(parts.store, {
      home: home.dir,
      clock,
      log,
      remote: parts.partners.reader,
      onSnapshot: (volume) => {
        parts.partners.wake()
        if (rulesOf(this, volume)) this.#unsorted.add(volume)
      },
      onHead: () => parts.partners.wake(),
      onBlocks: () => parts.partners.wake(),
      isSlow: () => parts.space.isFull,
    })
    this.upkeep = new Upkeep(clock, log)
  }

  static async open(
    home: Home,
    config: Config,
    identity: Identity,
    { clock, log }: { clock: Clock; log: Log },
  ): Promise<Services> {
    const opened: { close(): Promise<void> }[] = []
    try {
      const joined: { partners?: Partners; space?: Space } = {}
      const vault = await Vault.open(home.folder('vault'), {
        quotaBytes: config.settings.vaultQuotaBytes,
        ownerQuotaBytes: (owner) => joined.partners?.room(owner) ?? 0,
        partnerKey: identity.id,
        dropDelayMs: config.settings.dropDelayHours * hourMs,
        clock,
        log: log.child({ part: 'vault' }),
      })
      opened.push(vault)
      // The two ask each other: the heads name the circles, and the partners are offered the blocks and the heads.
      const store = await Store.open(home.folder('store'), {
        clock,
        log: log.child({ part: 'store' }),
        identity,
        circles: () => joined.partners?.circleSecrets() ?? [],
        isSafe: (sequence, name) => joined.space?.isSafe(sequence, name) ?? false,
        hasRoom: () => joined.space?.hasRoom ?? true,
      })
      opened.push(store)
      const partners = await Partners.start({
        dir: home.folder('partners'),
        identity,
        name: config.name,
        bootstrap: config.settings.bootstrap,
        auditEveryMs: config.settings.auditHours * hourMs,
        auditBytesPerDay: config.settings.auditBytesPerDay,
        policy: () => policyOf(config.settings),
        pool: () => poolOf(config.settings),
        placement: () => config.settings.placement,
        leastSilenceMs: () => config.settings.silentDays * dayMs,
        limitUp: () => limitUpAt(config.settings, clock.now()),
        vault,
        owned: ownedBlocks(store, () => joined.partners?.reader),
        clock,
        log: log.child({ part: 'partners' }),
      })
      joined.partners = partners
      const space = new Space(store, partners, config, log.child({ part: 'space' }))
      joined.space = space
      opened.push({ close: () => partners.stop() })
      const services = new Services({ home, config, identity, clock, log }, { store, vault, partners, space })
      await services.volumes.resume()
      services.#schedule()
      return services
    } catch (error) {
      for (const part of opened.reverse()) await part.close()
      throw error
    }
  }

  /** After the circles changed: the heads must name them, for a recovery to be a member again. */
  async renewHeads(): Promise<void> {
    for (const volume of this.store.volumes()) await volume.renewHead()
    this.partners.wake()
  }

  /** Ends everything in order; mounts stay. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    const upkeep = this.upkeep.stop()
    await this.browses.end()
    await this.#lastSnapshots()
    await this.volumes.detach() // ends a snapshot that is being taken
    await upkeep
    await this.partners.stop()
    await this.store.close()
    await this.vault.close()
  }

  /** Sets and tells when snapshots of a directory are taken. */
  async schedule({ dir, schedule }: Params<'schedule'>): Promise<Result<'schedule'>> {
    const volume = await this.volumes.find(dir)
    if (schedule !== undefined) {
      const schedules = { ...this.config.settings.schedules }
      if (schedule) schedules[volume.id] = schedule
      else Reflect.deleteProperty(schedules, volume.id)
      this.config.set({ schedules })
    }
    const rules = this.#rulesOf(volume)
    const { everyMinutes = this.config.settings.snapshotHours * 60 } = rules
    return { dir: volume.dir, schedule: rules, everyMinutes }
  }

  #rulesOf(volume: ProtectedVolume): Schedule {
    return this.config.settings.schedules[volume.id] ?? {}
  }

  /** The daemon ends, perhaps with the machine: what asks for it is taken once more, if that is quickly done. */
  async #lastSnapshots(): Promise<void> {
    const signal = AbortSignal.timeout(lastSnapshotMs)
    for (const volume of this.volumes.list()) {
      if (!this.#rulesOf(volume).beforeStop || volume.state !== 'mounted' || !volume.changed) continue
      await volume.snapshot({ signal }).catch(() => undefined)
    }
  }

  #schedule(): void {
    const everyMs = this.config.settings.snapshotHours * hourMs
    const due = () =>
      this.volumes.list().filter((volume) => {
        const rules = this.#rulesOf(volume)
        return this.space.isFull
          ? volume.isDue(rarer(rules), everyMs * slowdown)
          : volume.isDue(rules, everyMs)
      })
    this.upkeep.add({
      name: 'mounts',
      firstMs: 0,
      everyMs: 0,
      wanted: () => true,
      run: async () => this.volumes.check(),
    })
    this.upkeep.add({
      name: 'snapshots',
      firstMs: 0,
      everyMs: 0,
      wanted: () => due().length > 0,
      run: async () => {
        // What fails is kept by the volume, which is due again after a while.
        for (const volume of due()) await volume.snapshot().catch(() => undefined)
      },
    })
    const pruneMs = this.config.settings.pruneHours * hourMs
    this.upkeep.add({
      name: 'prune',
      firstMs: Math.min(firstPruneMs, pruneMs),
      everyMs: pruneMs,
      wanted: () => this.store.pruneIsDue,
      run: async () => {
        const { blocks, bytes } = await this.store.prune({
          remote: this.partners.reader,
          compactBytes: compactAtOnce,
          signal: this.#stopping.signal,
        })
        this.log.info({ blocks, bytes }, 'pruned')
        this.partners.wake()
      },
    })
    this.upkeep.add({
      name: 'space',
      firstMs: 0,
      everyMs: 0,
      wanted: () => this.space.isWanted,
      run: () => this.space.run(this.#stopping.signal),
    })
    this.upkeep.add({
      name: 'drops',
      firstMs: 0,
      everyMs: 0,
      wanted: () => this.vault.hasDueDrops,
      run: async () => void (await this.vault.carryOutDrops()),
    })
    this.upkeep.add({
      name: 'retention',
      firstMs: 0,
      everyMs: 0,
      wanted: () => this.#unsorted.size > 0,
      run: async () => {
        for (const volume of [...this.#unsorted]) {
          await applyPolicy(this, volume)
          this.#unsorted.delete(volume)
        }
      },
    })
  }
}

/** Of the rules, those by time that passes: as often as the slow intake allows. */
function rarer({ everyMinutes, ...rest }: Schedule): Schedule {
  return everyMinutes
    ? { ...rest, everyMinutes: everyMinutes * slowdown }
    : { ...rest, ...(everyMinutes === null && { everyMinutes }) }
}

/** The store as the partners see it. */
function ownedBlocks(store: Store, reader: () => BlockReader | undefined): OwnedBlocks {
  return {
    since: (sequence, limit) => store.blocks.since(sequence, limit),
    within: (range, limit) => blocksWithin(store.blocks, range, limit),
    last: () => store.blocks.lastSequence,
    countTo: (sequence) => countTo(store.blocks, sequence),
    get: (name) => store.blocks.peek(name),
    fetch: (name) => fetched(reader(), name),
    heads: () => store.volumes().flatMap((volume) => volume.head() ?? []),
    has: (name) => store.blocks.sequence(name) !== undefined || store.blocks.has(name),
    isHere: (name) => store.blocks.isHere(name),
    removed: (after, limit) => store.removed.since(after, limit),
    lastRemoved: () => store.removed.last,
    removalsTold: (number) => store.removed.told(number),
  }
}

async function fetched(reader: BlockReader | undefined, name: Buffer): Promise<Buffer | undefined> {
  try {
    return await reader?.get(name)
  } catch (error) {
    const { code } = asKithError(error)
    if (code === 'damaged' || code === 'noPartners' || code === 'timeout') return undefined
    throw error
  }
}

interface Context {
  home: Home
  config: Config
  identity: Identity
  clock: Clock
  log: Log
}
