/**
 * A plain directory, protected without a mount: for places where no FUSE can be had, such as containers. What a mount tells
 * by its change log is gathered here from chokidar, and given to the daemon in the same form (types.ts, LiveMount), so
 * that all above is the same. Programs work on the directory itself; nothing stands between.
 *
 * Only directories are watched: what happens to a file is told of its directory (`raw`). A watcher for each file would take
 * some 14 KB of memory, and one of the few that the system gives.
 *
 * What this can promise is less, and a scan makes up for it. A watcher is told that something happened to a name, in order, but
 * some things it is never told: what overflowed in the kernel's queue (16,384 events; nobody says so), what is written
 * through a mapping, what happened while nobody watched. So `lost`, which has everything compared by ctime and size, is
 * said at the start until all is watched and once more then, every hour, after a burst of changes, and after any
 * error. Where the system lets us watch no more (ENOSPC), it is said each time: every snapshot scans.
 *
 * A directory that is new, or new in its place, is read before it is watched, with a gap between: for a while all its names are
 * looked at each time (`young`).
 *
 * A path is only ever a hint to look: its inode numbers are looked up here, and the snapshot reads through rootFd.
 */
import { EventEmitter } from 'node:events'
import { lstat } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { FSWatcher } from 'chokidar'
import type { Clock, Timer } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { close, errnoCode, statFd } from '../base/posix.js'
import type { Change } from '../format/changes.js'
import { clearDeadMounts, canonicalDir } from './mount-table.js'
import { openPlainDirectory, refuseHome, refuseOther } from './places.js'
import type { LiveMount, MountOptions, Stopped, Taken } from './types.js'

const scanEveryMs = 3_600_000
/** Between scans where nothing can be watched. */
const blindScanMs = 600_000
/** So many paths touched between two looks at them: the kernel's queue may have been full. */
const burst = 4096
const lookupsAtOnce = 32
/** Within this time chokidar has come to watch a directory that it knows of. */
const youngMs = 10_000

interface Events {
  wake: []
  lost: []
  replaced: []
}

export class WatchedDirectory extends EventEmitter<Events> implements LiveMount {
  readonly dir: string
  readonly rootFd: number
  readonly needsScan = true
  readonly #clock: Clock
  readonly #log: Log
  readonly #watcher: FSWatcher
  /** paths that something happened to, since the last take(); true where a directory may have come to be */
  #touched = new Map<string, boolean>()
  /** directories, and until when (monotonic) */
  readonly #young = new Map<string, number>()
  #youngTimer: Timer | undefined
  /** what take() told and done() has not yet confirmed */
  #told: Taken = { changes: [], lost: false }
  #lost = true
  #ready = false
  #blind = false
  #ended = false
  #timer: Timer | undefined

  private constructor(dir: string, rootFd: number, { clock, log }: MountOptions) {
    super()
    this.dir = dir
    this.rootFd = rootFd
    this.#clock = clock
    this.#log = log
    const device = Number(statFd(rootFd).dev)
    this.#watcher = new FSWatcher({
      atomic: false,
      followSymlinks: false,
      ignoreInitial: true,
      ignorePermissionErrors: true,
      ignored: (_path, stats) => stats !== undefined && (!stats.isDirectory() || stats.dev !== device),
    })
    this.#watcher.on('all', (event, path) => this.#touch(path, event === 'addDir'))
    this.#watcher.on('raw', (event, name, details) => this.#raw(event, name, details))
    this.#watcher.on('error', (error) => this.#failed(error))
    this.#watcher.on('ready', () => {
      this.#ready = true
      this.#everything()
    })
    this.#watcher.add(dir)
    this.#schedule()
  }

  /**
   * Begins to watch; what is there already is watched little by little.
   * @throws KithError notFound, usage, denied, exists
   * @param expected inode number; a directory with another is not taken for it: notFound
   */
  static async start(options: MountOptions, expected?: bigint): Promise<WatchedDirectory> {
    const dir = await canonicalDir(options.dir)
    await refuseHome(dir, options.home)
    await clearDeadMounts(dir)
    const rootFd = openPlainDirectory(dir)
    try {
      refuseOther(dir, rootFd, expected)
      return new WatchedDirectory(dir, rootFd, options)
    } catch (error) {
      close(rootFd)
      throw error
    }
  }

  get problems(): string[] {
    if (!this.#blind) return []
    return [
      `${this.dir} has more directories than this system lets programs watch: every snapshot looks at everything, and changes are ` +
        'noticed every 10 min only; allow more by: sudo sysctl fs.inotify.max_user_watches=1048576, then unmount and mount again',
    ]
  }

  async take(): Promise<Taken> {
    const touched = this.#touched
    this.#touched = new Map()
    const lost = this.#lost || this.#blind || !this.#ready || touched.size >= burst
    this.#lost = false
    try {
      const changes = lost ? [] : await this.#changesAt(touched)
      const before = this.#told
      this.#told = { changes: [...before.changes, ...changes], lost: before.lost || lost }
      return this.#told
    } catch (error) {
      this.#lost = true
      throw error
    }
  }

  async done(): Promise<void> {
    this.#told = { changes: [], lost: false }
    if (this.#touched.size > 0) this.emit('wake')
  }

  /** What the kernel has told by now is taken in: its queue is read once in each turn of the event loop. */
  async sync(): Promise<void> {
    await turn()
    await turn()
  }

  serve(): void {
    // No program can ask here: `kith browse` shows the snapshots.
  }

  async snapshotsChanged(): Promise<void> {
    // Nobody has been shown any.
  }

  async stop(): Promise<Stopped> {
    this.detach()
    return { stillOpen: [], holders: [] }
  }

  /** There is nothing that could be left running: the next daemon begins anew, with a scan. */
  detach(): void {
    if (this.#ended) return
    this.#ended = true
    this.#timer?.cancel()
    this.#youngTimer?.cancel()
    void this.#watcher.close()
    close(this.rootFd)
  }

  #schedule(): void {
    this.#timer?.cancel()
    this.#timer = this.#clock.after(this.#blind ? blindScanMs : scanEveryMs, () => {
      this.#everything()
      this.#schedule()
    })
  }

  #everything(): void {
    if (this.#ended) return
    this.#lost = true
    this.emit('wake')
  }

  /** What fs.watch says itself, of the names in a directory: files come by this alone. */
  #raw(event: string, name: unknown, details: unknown): void {
    const watched =
      typeof details === 'object' && details !== null && 'watchedPath' in details && details.watchedPath
    if (typeof watched !== 'string') return
    this.#touch(watched, false)
    if (typeof name === 'string') this.#touch(join(watched, name), event === 'rename')
  }

  #touch(path: string, young: boolean): void {
    if (this.#ended || this.#touched.size >= burst) return
    this.#touched.set(path, young || this.#touched.get(path) === true)
    if (this.#touched.size === 1) this.emit('wake')
  }

  #failed(error: unknown): void {
    if (this.#ended) return
    const code = errnoCode(error)
    this.#log.warn({ code, error: String(error) }, 'watching failed')
    if ((code === 'ENOSPC' || code === 'EMFILE') && !this.#blind) {
      this.#blind = true
      this.#touched.clear()
      void this.#watcher.close()
      this.#schedule()
    }
    this.#everything()
  }

  async #changesAt(touched: ReadonlyMap<string, boolean>): Promise<Change[]> {
    const changes: Change[] = []
    const left = [...touched]
    const look = async () => {
      for (let next = left.pop(); next; next = left.pop()) changes.push(...(await this.#changeAt(...next)))
    }
    await Promise.all(Array.from({ length: lookupsAtOnce }, look))
    changes.push(...(await this.#inYoung()))
    return changes
  }

  async #changeAt(path: string, mayBeYoung: boolean): Promise<Change[]> {
    const below = relative(this.dir, path)
    if (below === '..' || below.startsWith('../')) return []
    const found = await statAt(path)
    if (below === '') return found ? [change('attributes', found.ino)] : []
    const parent = await statAt(dirname(path))
    if (!parent?.isDirectory()) return [] // it is told of the directory above
    if (mayBeYoung && found?.isDirectory()) this.#young.set(path, this.#clock.monotonic() + youngMs)
    const name = basename(path)
    // Bytes that are no UTF-8 do not come through: then all names of the directory are looked at.
    const known = name.includes('\ufffd') ? {} : { name: Buffer.from(name) }
    const named = { ...change('names', found?.ino ?? 0n), parent: parent.ino, ...known }
    return found?.isFile() ? [named, change('close', found.ino)] : [named]
  }

  /** Any name in the young directories, the last time when they no longer are. */
  async #inYoung(): Promise<Change[]> {
    const now = this.#clock.monotonic()
    const changes: Change[] = []
    for (const [path, until] of [...this.#young]) {
      const found = await statAt(path)
      if (found?.isDirectory()) changes.push({ ...change('names', 0n), parent: found.ino })
      if (!found || until <= now) this.#young.delete(path)
    }
    if (this.#young.size > 0) {
      this.#youngTimer ??= this.#clock.after(youngMs, () => {
        this.#youngTimer = undefined
        this.emit('wake')
      })
    }
    return changes
  }
}

function change(kind: Change['kind'], ino: bigint): Change {
  return { kind, ino, parent: 0n, offset: 0, length: 0 }
}

async function statAt(path: string) {
  try {
    return await lstat(path, { bigint: true })
  } catch (error) {
    const code = errnoCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG' || code === 'EACCES')
      return undefined
    throw new KithError('internal', `cannot look at a changed name: ${code ?? 'unknown'}`, { cause: error })
  }
}
