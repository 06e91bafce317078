/** `browse` and `browseStop`: snapshots as read-only mounts. Each lasts as long as the command that asked for it. */
import { KithError } from '../base/errors.js'
import { Browse, browsePlace } from '../mount/browse.js'
import { canonicalDir } from '../mount/mount-table.js'
import { isInside } from '../mount/surroundings.js'
import type { Item, Params, Result } from './api.js'
import { existing } from './deletable.js'
import type { Job } from './control-server.js'
import type { Services } from './services.js'

/** Those of one daemon. */
export class Browses {
  /** by mount point; undefined while one is being made */
  readonly #running = new Map<string, Browse | undefined>()

  /**
   * What works on a path from this process would wait for itself below a mount that this process answers for.
   * @throws KithError denied
   */
  async refuse(path: string): Promise<void> {
    if (this.#running.size === 0) return
    // What is wrong with the path otherwise is told by whoever works on it.
    const real = await existing(path).catch(() => path)
    const around = [...this.#running.keys()].find((dir) => real === dir || isInside(real, dir))
    if (around !== undefined)
      throw new KithError('denied', `${around} shows snapshots, read-only; choose another place`)
  }

  /** Resolves when it has ended: by browseStop, by unmounting, or as the client went away. */
  async run(
    services: Services,
    { dir, mountpoint: given }: Params<'browse'>,
    job: Job<Item<'browse'>>,
  ): Promise<Result<'browse'>> {
    const volume = await services.volumes.find(dir)
    const { stored } = volume
    const mountpoint = await this.#take(services, given)
    try {
      const browse = await Browse.start({
        mountpoint,
        catalog: { list: () => stored.snapshots(), reader: () => volume.reader },
        version: () => stored.head(),
        clock: services.clock,
        log: services.log.child({ part: 'browse' }),
      })
      this.#running.set(mountpoint, browse)
      const stop = () => void browse.stop()
      if (job.signal.aborted) stop()
      else job.signal.addEventListener('abort', stop, { once: true })
      await job.send([{ dir: volume.dir, mountpoint }]).catch(() => undefined)
      return { dir: volume.dir, mountpoint, ended: await browse.ended }
    } finally {
      this.#running.delete(mountpoint)
    }
  }

  async stop({ mountpoint }: Params<'browseStop'>): Promise<Result<'browseStop'>> {
    const wanted = mountpoint === undefined ? undefined : await canonicalDir(mountpoint)
    const found = [...this.#running].filter(([dir]) => wanted === undefined || dir === wanted)
    if (found.length === 0)
      throw new KithError(
        'notFound',
        `no snapshots are shown ${wanted === undefined ? 'anywhere' : `at ${wanted}`}`,
      )
    await Promise.all(found.map(([, browse]) => browse?.stop()))
    return { stopped: found.map(([dir]) => dir) }
  }

  async end(): Promise<void> {
    await Promise.all([...this.#running.values()].map((browse) => browse?.stop()))
  }

  async #take(services: Services, given: string): Promise<string> {
    const mountpoint = await browsePlace(given)
    if (this.#running.has(mountpoint))
      throw new KithError('busy', `snapshots are about to be shown at ${mountpoint}`)
    for (const { dir } of services.volumes.list())
      if (mountpoint === dir || isInside(mountpoint, dir) || isInside(dir, mountpoint))
        throw new KithError(
          'usage',
          `${mountpoint} and ${dir}, which is protected, lie within each other; choose another place`,
        )
    if (isInside(services.home.dir, mountpoint) || isInside(mountpoint, services.home.dir))
      throw new KithError(
        'usage',
        `${mountpoint} and kith's own ${services.home.dir} lie within each other; choose another place`,
      )
    this.#running.set(mountpoint, undefined)
    return mountpoint
  }
}
