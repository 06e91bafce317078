/** The protected directories of this home: which there are, how a path finds one, and what may not be mounted. */
import { sleep } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import { sharedVolumeKeys } from '../format/keys.js'
import type { EngineName } from '../mount/types.js'
import { mountState } from '../mount/mount.js'
import { canonicalDir, mounts, mountType } from '../mount/mount-table.js'
import { isInside, mountpointsBelow, sameFiles } from '../mount/surroundings.js'
import type { ProtectedVolume as StoredVolume, VolumeStore } from '../store/types.js'
import type { ExcludeChange } from './api.js'
import { change } from './excludes.js'
import { ProtectedVolume, type ProtectedVolumeOptions } from './protected-volume.js'

/** So long a start of the daemon waits for its mounts. */
const resumeMs = 10_000

export class Volumes {
  #store: VolumeStore
  #options: ProtectedVolumeOptions
  #volumes: ProtectedVolume[]
  /** mount and unmount, one at a time */
  #queue: Promise<unknown> = Promise.resolve()

  constructor(store: VolumeStore, options: ProtectedVolumeOptions) {
    this.#store = store
    this.#options = options
    this.#volumes = store.volumes().map((stored) => new ProtectedVolume(stored, options))
  }

  list(): readonly ProtectedVolume[] {
    return this.#volumes
  }

  /**
   * At the start: takes over the mounts that an earlier daemon left running, and mounts again what was mounted when it ended.
   * What takes long, or cannot be mounted now, goes on by itself.
   */
  async resume(): Promise<void> {
    const { clock } = this.#options
    await Promise.race([Promise.all(this.#volumes.map((volume) => volume.resume())), sleep(clock, resumeMs)])
  }

  /** Whether every mount is still there. */
  check(): void {
    for (const volume of this.#volumes) volume.check()
  }

  /** Of this directory; without one, of the only volume there is. */
  async find(dir: string | undefined): Promise<ProtectedVolume> {
    if (dir === undefined) {
      const [only, ...others] = this.#volumes
      if (only && others.length === 0) return only
      if (!only) throw new KithError('notFound', 'nothing is protected yet; start by: kith mount DIR')
      throw new KithError('usage', `say which: ${this.#volumes.map((volume) => volume.dir).join(', ')}`)
    }
    const found = this.#byDir(dir) ?? this.#byDir(await canonicalDir(dir).catch(() => dir))
    if (!found)
      throw new KithError(
        'notFound',
        `${dir} is not protected by this home; protect it by: kith mount ${dir}`,
      )
    return found
  }

  /** @param share the secret of the circle with which a directory that is new shares its blocks; not given: with nobody */
  async mount(given: string, engine: EngineName, excludes?: ExcludeChange, share?: Buffer) {
    return this.#exclusive(async () => {
      const dir = await canonicalDir(given)
      const known = this.#byDir(dir)
      if (known && share && !isShared(known, share)) throw keysStay(dir)
      // Whoever comes to mount it again finds that the daemon has done so.
      if (known?.state === 'mounted' && known.takeHealed()) {
        await change(known.stored, excludes)
        return await told(known, { continued: true, recovered: true })
      }
      await this.#refuse(dir, known)
      const recovered = known?.state === 'lost' || (await mountState(dir)) === 'dead'
      const volume = known ?? (await this.#create(dir, share))
      try {
        await change(volume.stored, excludes)
        await volume.mount(engine)
      } catch (error) {
        if (!known) await this.remove(volume)
        throw error
      }
      return await told(volume, { continued: known !== undefined, recovered })
    })
  }

  /** Knows a volume that came into the store otherwise, by recovery. */
  adopt(stored: StoredVolume): ProtectedVolume {
    const adopted = new ProtectedVolume(stored, this.#options)
    this.#volumes.push(adopted)
    return adopted
  }

  /** Forgets the volume and frees what only it holds in the store. */
  async remove(volume: ProtectedVolume): Promise<void> {
    await this.#store.removeVolume(volume.stored.id)
    this.#volumes = this.#volumes.filter((other) => other !== volume)
  }

  /** Lets go of all mounts; they stay. */
  async detach(): Promise<void> {
    await this.#queue
    await Promise.all(this.#volumes.map((volume) => volume.detach()))
  }

  async #create(dir: string, share: Buffer | undefined): Promise<ProtectedVolume> {
    return this.adopt(
      await this.#store.createVolume({ dir, ...(share && { keys: sharedVolumeKeys(share) }) }),
    )
  }

  #byDir(dir: string): ProtectedVolume | undefined {
    return this.#volumes.find((volume) => volume.dir === dir)
  }

  /** Refuses what Mount.start cannot know of: our own mounts, and kith mounts around and below. */
  async #refuse(dir: string, known: ProtectedVolume | undefined): Promise<void> {
    if (known?.state === 'mounted') throw new KithError('busy', `${dir} is mounted already`)
    for (const { dir: other, engine, state } of this.#volumes)
      if (engine === 'watch' && state !== 'unmounted' && (isInside(dir, other) || isInside(other, dir)))
        throw withinEachOther(dir, other)
    const entries = await mounts()
    for (const { mountpoint, type } of entries) {
      if (
        type === mountType &&
        mountpoint !== dir &&
        sameFiles(entries, dir, mountpoint) &&
        !isInside(dir, mountpoint) &&
        !isInside(mountpoint, dir)
      ) {
        throw new KithError(
          'usage',
          `${dir} is another name for files of ${mountpoint}, which is protected; use that`,
        )
      }
      if (type === mountType && (isInside(dir, mountpoint) || isInside(mountpoint, dir))) {
        throw withinEachOther(dir, mountpoint)
      }
    }
  }

  #exclusive<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(step)
    this.#queue = result.catch(() => undefined)
    return result
  }
}

/** Whether the volume shares its blocks with this circle. */
export function isShared({ stored }: ProtectedVolume, circleSecret: Buffer): boolean {
  return stored.keys.convergence.equals(sharedVolumeKeys(circleSecret).convergence)
}

function keysStay(dir: string): KithError {
  return new KithError(
    'exists',
    `${dir} was protected before, and what it shares is settled at the first mount; to settle it anew: kith unmount --decommission, then kith mount --share`,
  )
}

function withinEachOther(dir: string, other: string): KithError {
  return new KithError(
    'usage',
    `${dir} and ${other}, which is protected, lie within each other; unmount one first`,
  )
}

async function told(volume: ProtectedVolume, how: { continued: boolean; recovered: boolean }) {
  const leftOut = mountpointsBelow(await mounts(), volume.dir)
  return {
    dir: volume.dir,
    volume: volume.id,
    engine: volume.engine,
    ...how,
    outsiders: [...volume.outsiders],
    leftOut,
  }
}
