/** `kith daemon`: the daemon in the foreground, with its log on stderr, until SIGINT or SIGTERM. */
import type { Context } from './context.js'

export async function run(context: Context) {
  const { runDaemon } = await import('../daemon/run.js')
  await runDaemon({
    home: context.home,
    bootstrap: context.bootstrap,
    onReady: ({ pid, home }) =>
      context.print({ pid, home }, () => `kith daemon ${pid} serves ${home}; Ctrl-C ends it`),
  })
}
