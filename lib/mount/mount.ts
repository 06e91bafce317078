/**
 * One protected directory, mounted: starts kith-fuse over it, or finds the one that is running, and joins its change log
 * and its bridge. kith-fuse outlives this process; so all that is kept lies in <home>/mounts/<volume id>/:
 *
 *     changes      the log (format/changes.ts), locked by the kith-fuse that lives
 *     bridge.sock  its socket (format/bridge.ts)
 *     fuse.log     its standard error
 *
 *   start:    1 canonical path  2 refusals, dead mounts off  3 descriptor of the plain directory  4 kith-fuse, which mounts
 *             over it and says `ready`  5 attach
 *   reattach: 1 connect to bridge.sock  2 the server's own descriptor of the plain directory, reopened through /proc
 *             3 attach
 */
import { EventEmitter } from 'node:events'
import { closeSync, constants, mkdirSync, openSync, rmSync } from 'node:fs'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep, type Clock } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { close, errnoCode, flockExclusive, openRoot, statFd, statIfAny } from '../base/posix.js'
import { decodeStop, type ServerHello } from '../format/bridge.js'
import { BridgeClient } from './bridge-client.js'
import { ChangeLogReader } from './change-log.js'
import { holdersOf } from './holders.js'
import { canonicalDir, clearDeadMounts, detach, kithMountState, mountOver, mountType } from './mount-table.js'
import { openPlainDirectory, refuseHome, refuseOther } from './places.js'
import { isHeldUp, spawnServer } from './server-process.js'
import { SnapshotFs } from './snapshot-fs.js'
import type { LiveMount, MountOptions, SnapshotCatalog, Stopped, Taken } from './types.js'

/** The name below the mount that leads to the snapshots; kith-fuse knows it as well. */
export const snapshotsName = '.snapshots'

/** How long to wait for the mount to be off after kith-fuse was told to stop. */
const stopMs = 10_000
const stepMs = 20

interface Events {
  wake: []
  lost: []
  replaced: []
}

interface Parts {
  dir: string
  rootFd: number
  client: BridgeClient
  changes: ChangeLogReader
  needsScan: boolean
  serverPid: number
  clock: Clock
  log: Log
}

export class Mount extends EventEmitter<Events> implements LiveMount {
  readonly dir: string
  readonly rootFd: number
  readonly needsScan: boolean
  /** process id of its kith-fuse */
  readonly serverPid: number
  readonly #client: BridgeClient
  readonly #changes: ChangeLogReader
  readonly #clock: Clock
  readonly #log: Log
  #snapshots: SnapshotFs | undefined
  #ended = false

  private constructor(parts: Parts) {
    super()
    this.dir = parts.dir
    this.rootFd = parts.rootFd
    this.needsScan = parts.needsScan
    this.serverPid = parts.serverPid
    this.#client = parts.client
    this.#changes = parts.changes
    this.#clock = parts.clock
    this.#log = parts.log
    this.#client.on('wake', () => this.emit('wake'))
    let replaced = false
    this.#client.on('replaced', () => {
      replaced = true
      if (!this.#ended) this.emit('replaced')
    })
    this.#client.on('closed', () => {
      if (!this.#ended && !replaced) this.emit('lost')
    })
  }

  /**
   * Mounts the directory over itself.
   * @throws KithError notFound, usage (no directory; inside the home or around it), exists (mounted already; a
   *   `.snapshots` in the way), busy, unsupported (no /dev/fuse), denied
   * @param expected inode number; a directory with another is not mounted: notFound
   */
  static async start(options: MountOptions, expected?: bigint): Promise<Mount> {
    const dir = await canonicalDir(options.dir)
    await refuseHome(dir, options.home)
    await clearDeadMounts(dir)
    await refuseWithoutFuse()
    const rootFd = openPlainDirectory(dir)
    try {
      refuseOther(dir, rootFd, expected)
      if (statIfAny(rootFd, Buffer.from(snapshotsName)))
        throw new KithError(
          'exists',
          `${dir} holds a ${snapshotsName} of its own, which the mount would hide; rename it`,
        )
      const stateDir = stateDirOf(options)
      mkdirSync(stateDir, { recursive: true, mode: 0o700 })
      await freeLog(stateDir, rootFd, options)
      await spawnServer({ dir, rootFd, stateDir, clock: options.clock })
      try {
        const { client, hello } = await BridgeClient.connect(stateDir, options)
        return await Mount.#attach(options, dir, client, hello, rootFd)
      } catch (error) {
        await detach(dir)
        throw error
      }
    } catch (error) {
      close(rootFd)
      throw error
    }
  }

  /** Joins the kith-fuse that a daemon before this one left running; undefined when there is none. */
  static async reattach(options: MountOptions): Promise<Mount | undefined> {
    const dir = await canonicalDir(options.dir)
    // One that was unmounted and only serves what is still open is no mount any more.
    if ((await mountOver(dir))?.type !== mountType) return undefined
    let connected
    try {
      connected = await BridgeClient.connect(stateDirOf(options), options)
    } catch (error) {
      if (['ENOENT', 'ECONNREFUSED'].includes(errnoCode(error) ?? '')) return undefined
      throw error
    }
    const { client, hello } = connected
    try {
      const rootFd = openRoot(`/proc/${hello.pid}/fd/${hello.rootFd}`)
      try {
        return await Mount.#attach(options, dir, client, hello, rootFd)
      } catch (error) {
        close(rootFd)
        throw error
      }
    } catch (error) {
      client.close()
      throw error
    }
  }

  static async #attach(
    options: MountOptions,
    dir: string,
    client: BridgeClient,
    hello: ServerHello,
    rootFd: number,
  ): Promise<Mount> {
    try {
      const { dev, ino } = statFd(rootFd)
      if (dev !== hello.rootDev || ino !== hello.rootIno)
        throw new KithError(
          'busy',
          `the kith-fuse of this volume serves another directory than ${dir}; unmount that`,
        )
      const changes = await ChangeLogReader.open(join(stateDirOf(options), 'changes'))
      const { lost, lostSeen } = await changes.header()
      const { clock, log } = options
      const needsScan = lost !== lostSeen
      const mount = new Mount({ dir, rootFd, client, changes, needsScan, serverPid: hello.pid, clock, log })
      setImmediate(() => void mount.#rest())
      return mount
    } catch (error) {
      client.close()
      throw error
    }
  }

  async take(): Promise<Taken> {
    return this.#changes.take()
  }

  async done(): Promise<void> {
    await this.#changes.done()
    await this.#rest()
  }

  /** Until there is something to take: kith-fuse will say so. */
  async #rest(): Promise<void> {
    try {
      if (!this.#ended && (await this.#changes.sleep())) this.emit('wake')
    } catch (error) {
      if (!this.#ended) this.#log.error({ error: String(error) }, 'cannot read the change log')
    }
  }

  get problems(): string[] {
    const { dir, serverPid } = this
    if (!this.#client.open || !isHeldUp(serverPid)) return []
    return [
      `kith-fuse, which serves ${dir}, is stopped, and whoever uses ${dir} waits; let it go on: kill -CONT ${serverPid}`,
    ]
  }

  /** @throws KithError busy when kith-fuse is stopped, `timeout`, `internal`, `cancelled` */
  async sync(): Promise<void> {
    const [heldUp] = this.problems
    if (heldUp !== undefined) throw new KithError('busy', heldUp)
    await this.#client.command('sync')
  }

  serve(catalog: SnapshotCatalog): void {
    const snapshots = new SnapshotFs({ catalog, clock: this.#clock, log: this.#log })
    this.#snapshots = snapshots
    this.#client.handle((type, payload) => snapshots.answer(type, payload))
    // The daemon before this one may have ended before it could tell of its last snapshot.
    this.#client.command('invalidate').catch(() => undefined)
  }

  async snapshotsChanged(): Promise<void> {
    this.#snapshots?.listChanged()
    await this.#client.command('invalidate')
  }

  async stop(): Promise<Stopped> {
    let stillOpen: string[] = []
    this.#ended = true
    // Asked first: what is open in a mount that is off can no longer be told by its path.
    const holders = await holdersOf(this.dir).catch(() => [])
    try {
      if (this.#client.open) {
        const open = decodeStop(await this.#client.command('stop', stopMs))
        stillOpen = open.map((path) => path.toString())
        const held = stillOpen.length + holders.length > 0
        // With nothing open kith-fuse ends with its mount, and frees the log for the next one.
        await this.#until(async () => !(await this.#mounted()) && (held || !this.#client.open))
      }
    } catch (error) {
      this.#log.error({ error: String(error) }, 'kith-fuse did not stop in order')
    }
    try {
      if (await this.#mounted()) await detach(this.dir)
    } finally {
      this.#release()
    }
    return { stillOpen, holders }
  }

  async #mounted(): Promise<boolean> {
    return (await mountOver(this.dir))?.type === mountType
  }

  async #until(condition: () => Promise<boolean>): Promise<void> {
    const deadline = this.#clock.monotonic() + stopMs
    while (!(await condition()) && this.#clock.monotonic() < deadline) await sleep(this.#clock, stepMs)
  }

  detach(): void {
    if (this.#ended) return
    this.#ended = true
    this.#release()
  }

  #release(): void {
    this.#client.close()
    close(this.rootFd)
    void this.#changes.close()
  }
}

export { isMountedAt } from './mount-table.js'

export function stateDirOf({ home, volumeId }: Pick<MountOptions, 'home' | 'volumeId'>): string {
  return join(home, 'mounts', volumeId.toString('hex'))
}

/**
 * Whether a kith mount lies over the directory, alive or not.
 * @throws KithError notFound
 */
export async function mountState(dir: string): Promise<'none' | 'alive' | 'dead' | 'stuck'> {
  return kithMountState(await canonicalDir(dir))
}

/** Takes a mount off whose kith-fuse is gone; the plain files stay. */
export async function clearAway(dir: string): Promise<boolean> {
  return clearDeadMounts(await canonicalDir(dir))
}

/**
 * A kith-fuse whose mount over this same directory is off may live on for files that are still open, and has the log. It
 * keeps that one; a new log is begun, which says that everything must be looked at.
 */
async function freeLog(stateDir: string, rootFd: number, options: MountOptions): Promise<void> {
  const file = join(stateDir, 'changes')
  const end = options.clock.monotonic() + stopMs
  while (isLocked(file)) {
    const found = await BridgeClient.connect(stateDir, options).catch((error: unknown) => {
      if (['ENOENT', 'ECONNREFUSED'].includes(errnoCode(error) ?? '')) return undefined
      throw error
    })
    found?.client.close()
    const { dev, ino } = statFd(rootFd)
    if (found && found.hello.rootDev === dev && found.hello.rootIno === ino) return rmSync(file)
    // It serves another directory, which kith-fuse refuses; or is just ending.
    if (found || options.clock.monotonic() >= end) return
    await sleep(options.clock, stepMs)
  }
}

function isLocked(file: string): boolean {
  let fd
  try {
    fd = openSync(file, 'r')
  } catch (error) {
    if (errnoCode(error) === 'ENOENT') return false
    throw error
  }
  try {
    return !flockExclusive(fd)
  } finally {
    closeSync(fd)
  }
}

async function refuseWithoutFuse(): Promise<void> {
  try {
    await access('/dev/fuse', constants.R_OK | constants.W_OK)
  } catch (error) {
    if (errnoCode(error) === 'EACCES' || errnoCode(error) === 'EPERM')
      throw new KithError('denied', 'this user may not use /dev/fuse; run: sudo chmod 666 /dev/fuse', {
        cause: error,
      })
    throw new KithError(
      'unsupported',
      'there is no /dev/fuse; load the kernel module: sudo modprobe fuse, or protect without: kith mount --engine watch',
      {
        cause: error,
      },
    )
  }
}
