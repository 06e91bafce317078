/** `kith dht [--port N]`: a bootstrap node for a private network, in the foreground. Needs no home and no daemon. */
import { KithError } from '../base/errors.js'
import type { Context } from './context.js'

export async function run(context: Context, _args: string[], options: { port?: string; host: string }) {
  const port = options.port === undefined ? 0 : Number(options.port)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new KithError('usage', `--port wants a number up to 65535, not '${options.port}'`)
  }
  const { runBootstrapNode } = await import('../daemon/bootstrap-node.js')
  await runBootstrapNode({
    port,
    host: options.host,
    onReady: (address) =>
      context.print(
        { address },
        () => `A DHT node serves ${address}. Use it by: kith --bootstrap ${address} ...`,
      ),
  })
}
