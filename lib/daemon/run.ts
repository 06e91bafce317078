/** Runs a daemon until a signal or `kith stop` ends it. */
import { sleep, systemClock } from '../base/clock.js'
import { asKithError } from '../base/errors.js'
import { spareThreads } from '../base/heap.js'
import { openLog, type Log } from '../base/log.js'
import { optimizeLater } from '../base/optimizing.js'
import { keepMemory } from '../base/posix.js'
import { Daemon } from './daemon.js'

/** Nothing is lost by a hard end; a daemon that hangs would be in the way of the next one. */
const stopBoundMs = 30_000
/** How often one that waits tries for the lock. */
const retryMs = 500

export interface DaemonOptions {
  home: string
  /** kept in the settings when given */
  bootstrap: string[] | undefined
  /** while another daemon serves the home, wait for its end */
  wait: boolean
  onReady(ready: { pid: number; home: string }): void
}

/** Resolves when the daemon has ended in order. Throws what keeps it from starting. */
export async function runDaemon({ home, bootstrap, wait, onReady }: DaemonOptions): Promise<void> {
  optimizeLater()
  keepMemory()
  const log = openLog()
  spareThreads()
  // Mounts are served by processes of their own: that this one ends loses nothing, and the next one catches up.
  process.on('uncaughtException', (error) => {
    log.fatal({ error: error.stack ?? error.message }, 'a bug: the daemon ends')
    process.exit(1)
  })
  // Timers of the clock and closing sockets do not keep a process alive; an orderly end is to be waited for.
  const alive = setInterval(() => undefined, 2 ** 30)
  const start = () => Daemon.start(home, bootstrap, { clock: systemClock, log })
  const daemon = await (wait ? whenFree(start, log) : start())
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => daemon.stop())
  void daemon.stopping.then(() => {
    systemClock.after(stopBoundMs, () => {
      log.error('the daemon does not end in order; it ends now')
      process.exit(1)
    })
  })
  onReady({ pid: process.pid, home: daemon.home.dir })
  await daemon.ended
  clearInterval(alive)
}

async function whenFree(start: () => Promise<Daemon>, log: Log): Promise<Daemon> {
  for (let told = false; ; told = true) {
    try {
      return await start()
    } catch (error) {
      if (asKithError(error).code !== 'busy') throw error
      if (!told) log.info('another daemon serves the home: waiting for its end')
      await sleep(systemClock, retryMs)
    }
  }
}
