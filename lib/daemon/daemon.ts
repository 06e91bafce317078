/**
 * The daemon of one home: takes the lock, serves the control socket, and runs the services once there is an identity
 * (at the start, or after `init` or `recover`).
 *
 * Start, in order: home, lock, settings, services (mounts of an earlier daemon are taken over), control socket. The
 * socket comes last, so that whoever can connect finds everything in place.
 * Stop: no more connections, jobs are cancelled, services end (mounts stay, served by kith-fuse), the lock is let go,
 * and only then do the clients' connections end: who waits for that may start the next daemon.
 */
import { readFileSync } from 'node:fs'
import type { Clock } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { Identity } from '../format/keys.js'
import { Config } from './config.js'
import { ControlServer } from './control-server.js'
import { handlers } from './handlers.js'
import { Home } from './home.js'
import { HomeLock } from './lock.js'
import { Services } from './services.js'

const homeCheckMs = 5000

export interface DaemonDependencies {
  clock: Clock
  log: Log
}

export interface Becoming<T> {
  prove(services: Services): Promise<T>
  failed(): void
}

export class Daemon {
  readonly home: Home
  readonly config: Config
  readonly clock: Clock
  readonly log: Log
  /** Resolves when the daemon begins to end. */
  readonly stopping: Promise<void>
  /** Resolves when the daemon has ended. */
  readonly ended: Promise<void>
  #services: Services | undefined
  #lock: HomeLock
  #server: ControlServer
  #stopping = false
  #isStopping!: () => void
  #hasEnded!: () => void
  /** init and recover, which give the home its identity, one at a time */
  #becoming: Promise<unknown> = Promise.resolve()

  private constructor(home: Home, config: Config, lock: HomeLock, { clock, log }: DaemonDependencies) {
    this.home = home
    this.config = config
    this.clock = clock
    this.log = log
    this.#lock = lock
    this.#server = new ControlServer(home.dir, handlers(this), { clock, log })
    this.stopping = new Promise((resolve) => (this.#isStopping = resolve))
    this.ended = new Promise((resolve) => (this.#hasEnded = resolve))
  }

  /**
   * @param bootstrap kept in the settings when given
   * @throws KithError busy when another daemon serves the home; denied, usage, damaged for what is wrong with the home
   */
  static async start(
    path: string,
    bootstrap: string[] | undefined,
    dependencies: DaemonDependencies,
  ): Promise<Daemon> {
    const home = Home.open(path)
    const lock = HomeLock.take(home)
    try {
      const config = Config.open(home)
      if (bootstrap) config.set({ bootstrap })
      const daemon = new Daemon(home, config, lock, dependencies)
      const identity = home.identity()
      if (identity) daemon.#services = await daemon.#open(identity)
      await daemon.#server.listen()
      daemon.#watchHome()
      dependencies.log.info({ pid: process.pid, initialised: identity !== undefined }, 'daemon started')
      return daemon
    } catch (error) {
      lock.release()
      throw error
    }
  }

  get version(): string {
    return version
  }

  /** The services, or undefined before `init`. */
  get running(): Services | undefined {
    return this.#services
  }

  /** The services. Throws `notFound` before `init`. */
  get services(): Services {
    if (this.#services) return this.#services
    throw new KithError('notFound', 'this node has no identity yet; start by: kith init')
  }

  /**
   * Gives the home an identity, and starts the services. With `prove` the identity is kept only if that resolves;
   * otherwise the services end again, and `failed` puts away what they left.
   * Throws `exists` when the home has an identity already.
   */
  become<T>(identity: Identity, { prove, failed }: Becoming<T>): Promise<T> {
    const run = this.#becoming.then(async () => {
      if (this.#services) {
        throw new KithError(
          'exists',
          `${this.home.dir} has an identity already; give another --home for a new one`,
        )
      }
      const services = await this.#open(identity)
      try {
        const value = await prove(services)
        if (this.#stopping) throw new KithError('cancelled', 'the daemon is ending')
        this.home.keepIdentity(identity)
        this.#services = services
        return value
      } catch (error) {
        await services.stop()
        failed()
        throw error
      }
    })
    this.#becoming = run.catch(() => undefined)
    return run
  }

  /** Ends the daemon in order; `ended` tells when. Mounts stay. */
  stop(): void {
    if (this.#stopping) return
    this.#stopping = true
    this.#isStopping()
    void this.#end()
  }

  #open(identity: Identity): Promise<Services> {
    return Services.open(this.home, this.config, identity, { clock: this.clock, log: this.log })
  }

  /** A daemon whose home was removed can do nothing for anybody, and ends. */
  #watchHome(): void {
    this.clock.after(homeCheckMs, () => {
      if (this.#stopping) return
      if (this.#lock.holds()) return this.#watchHome()
      this.log.error('the home is gone')
      this.stop()
    })
  }

  async #end(): Promise<void> {
    this.log.info('daemon ends')
    this.#server.stopListening()
    await this.#becoming
    try {
      await this.#services?.stop()
    } catch (error) {
      this.log.error(
        { error: error instanceof Error ? error.stack : String(error) },
        'ending the services failed',
      )
    }
    this.#lock.release()
    await this.#server.end()
    this.#hasEnded()
  }
}

const version = (
  JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }
).version
