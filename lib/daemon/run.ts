/** Runs a daemon until a signal or `kith stop` ends it. */
import { systemClock } from '../base/clock.js'
import { openLog } from '../base/log.js'
import { Daemon } from './daemon.js'

/** Nothing is lost by a hard end; a daemon that hangs would be in the way of the next one. */
const stopBoundMs = 30_000

export interface DaemonOptions {
  home: string
  /** kept in the settings when given */
  bootstrap: string[] | undefined
  onReady(ready: { pid: number; home: string }): void
}

/** Resolves when the daemon has ended in order. Throws what keeps it from starting. */
export async function runDaemon({ home, bootstrap, onReady }: DaemonOptions): Promise<void> {
  const log = openLog()
  // Mounts are served by processes of their own: that this one ends loses nothing, and the next one catches up.
  process.on('uncaughtException', (error) => {
    log.fatal({ error: error.stack ?? error.message }, 'a bug: the daemon ends')
    process.exit(1)
  })
  const daemon = await Daemon.start(home, bootstrap, { clock: systemClock, log })
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => daemon.stop())
  void daemon.stopping.then(() => {
    systemClock.after(stopBoundMs, () => {
      log.error('the daemon does not end in order; it ends now')
      process.exit(1)
    })
  })
  // Timers of the clock and closing sockets do not keep a process alive; an orderly end is to be waited for.
  const alive = setInterval(() => undefined, 2 ** 30)
  onReady({ pid: process.pid, home: daemon.home.dir })
  await daemon.ended
  clearInterval(alive)
}
