/** `kith dht`: a private DHT in the foreground, until a signal ends it. */
import { runDhtNode } from '../partners/dht-node.js'

export async function runBootstrapNode(options: {
  host: string
  port: number
  onReady(address: string): void
}): Promise<void> {
  const node = await runDhtNode(options)
  const ended = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, () => resolve())
  })
  options.onReady(node.address)
  await ended
  await node.close()
}
