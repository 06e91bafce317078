/**
 * A read-only mount of all snapshots of a volume, anywhere: `kith browse`. A process of its own serves it by libfuse 2
 * (browse-worker.ts) and asks here; SnapshotFs answers, as it does for `.snapshots`, so that it needs no live mount.
 *
 * The mount is never left dead: when the process dies, it is taken off here; when this daemon dies, the process does; when both
 * do, the next browse of that place. Nothing here looks at a path below the mount, since this process answers there.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { errnoCode } from '../base/posix.js'
import type { FromBrowse, ToBrowse } from './browse-messages.js'
import { browseType, canonicalDir, detach, isMountedAt, kithMountState, mountOver } from './mount-table.js'
import { SnapshotFs } from './snapshot-fs.js'
import type { SnapshotCatalog } from './types.js'

const worker = fileURLToPath(new URL('../mount/browse-worker.js', import.meta.url))
const startMs = 20_000
const stopMs = 10_000
/** libfuse 2 by way of fuse-native keeps no more of it. */
const maxPathBytes = 1000
const keptErrorBytes = 2000

/** How it ended: by stop(), by somebody's umount, or by the death of its process. */
export type BrowseEnd = 'stopped' | 'unmounted' | 'died'

export interface BrowseOptions {
  mountpoint: string
  catalog: SnapshotCatalog
  /** changes when the list of snapshots does */
  version: () => Buffer | undefined
  clock: Clock
  log: Log
}

export class Browse {
  readonly mountpoint: string
  readonly ended: Promise<BrowseEnd>
  #stopped = false

  private constructor(
    private readonly child: ChildProcess,
    { mountpoint, clock }: BrowseOptions,
  ) {
    this.mountpoint = mountpoint
    this.#clock = clock
    this.ended = new Promise((resolve) => {
      child.once('exit', (code) => void this.#cleared().then(() => resolve(this.#how(code))))
    })
  }

  readonly #clock: Clock

  /**
   * @param options `mountpoint` as browsePlace gives it
   * @throws KithError unsupported without libfuse 2 or fuse-native, denied, timeout
   */
  static async start(options: BrowseOptions): Promise<Browse> {
    const child = fork(worker, [], {
      cwd: '/',
      detached: true,
      execArgv: [],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    const browse = new Browse(child, options)
    let errors = ''
    child.stderr?.on('data', (data: Buffer) => {
      errors = `${errors}${data.toString()}`.slice(0, keptErrorBytes)
    })
    serve(child, options)
    const begun = new Promise<FromBrowse & { kind: 'failed' | 'mounted' }>((resolve) => {
      child.on('message', (message: FromBrowse) => {
        if (message.kind !== 'ask') resolve(message)
      })
      child.once('error', ({ message }) => resolve({ kind: 'failed', code: 'internal', message }))
      child.once('exit', () =>
        resolve({ kind: 'failed', code: 'internal', message: 'it ended without a word' }),
      )
    })
    const timer = options.clock.after(startMs, () => child.kill('SIGKILL'))
    send(child, { kind: 'mount', mountpoint: options.mountpoint })
    const said = await begun
    timer.cancel()
    if (said.kind === 'mounted') return browse
    await browse.ended
    const line = errors.split('\n')[0]?.trim() ?? ''
    throw new KithError(said.code, line === '' ? said.message : `${said.message} (${line})`)
  }

  /** Unmounts, whatever is open in it. */
  async stop(): Promise<void> {
    this.#stopped = true
    send(this.child, { kind: 'end' })
    const timer = this.#clock.after(stopMs, () => this.child.kill('SIGKILL'))
    await this.ended
    timer.cancel()
  }

  #how(code: number | null): BrowseEnd {
    if (this.#stopped) return 'stopped'
    return code === 0 ? 'unmounted' : 'died'
  }

  async #cleared(): Promise<void> {
    if (isMountedAt(this.mountpoint, browseType)) await detach(this.mountpoint).catch(() => undefined)
  }
}

/** Answers the process. */
function serve(child: ChildProcess, { catalog, version, clock, log }: BrowseOptions): void {
  const snapshots = new SnapshotFs({ catalog, clock, log })
  let seen = version()
  child.on('message', (message: FromBrowse) => {
    if (message.kind !== 'ask') return
    const now = version()
    if (now !== seen && (!now || !seen?.equals(now))) snapshots.listChanged()
    seen = now
    const { id, type, payload } = message
    const asked = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
    void snapshots.answer(type, asked).then((answer) => send(child, { kind: 'answer', id, ...answer }))
  })
}

/** To one that is gone nothing is sent; its end is told otherwise. */
function send(child: ChildProcess, message: ToBrowse): void {
  if (child.connected) child.send(message, () => undefined)
}

/**
 * The place to mount at, without symbolic links; a dead browse mount is taken off it first.
 * @throws KithError notFound, usage where it cannot be used, exists when one lives there, busy when one does not answer
 */
export async function browsePlace(given: string): Promise<string> {
  const dir = await canonicalDir(given)
  if (Buffer.byteLength(dir) > maxPathBytes)
    throw new KithError('usage', 'the path of the mount point is too long; give a shorter one')
  for (let state = await browseState(dir); state !== 'none'; state = await browseState(dir)) {
    if (state === 'alive')
      throw new KithError(
        'exists',
        `snapshots are shown at ${dir} already; end that by: kith browse --stop ${dir}`,
      )
    if (state === 'stuck')
      throw new KithError('busy', `the mount at ${dir} does not answer; take it off by: umount -l ${dir}`)
    await detach(dir)
  }
  const over = await mountOver(dir)
  if (over) throw new KithError('exists', `something is mounted at ${dir}; choose another place`)
  try {
    if ((await readdir(dir)).length > 0)
      throw new KithError('exists', `${dir} is not empty; give an empty directory`)
  } catch (error) {
    if (errnoCode(error) !== 'EACCES') throw error
    throw new KithError('denied', `${dir} may not be read by this user; give another directory`, {
      cause: error,
    })
  }
  return dir
}

function browseState(dir: string) {
  return kithMountState(dir, browseType)
}
