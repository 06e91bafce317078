/** `kith daemon`: the daemon in the foreground, with its log on stderr, until SIGINT or SIGTERM. */
import type { Context } from './context.js'

export async function run(context: Context, _: string[], options: { wait?: true }) {
  const { runDaemon } = await import('../daemon/run.js')
  await runDaemon({
    home: context.home,
    bootstrap: context.bootstrap,
    wait: options.wait ?? false,
    onReady: ({ pid, home }) =>
      context.print({ pid, home }, () => `kith daemon ${pid} serves ${home}; Ctrl-C ends it`),
  })
}
