/**
 * A private DHT for `kith dht`: what a group needs that does not want to use the public one. One process runs the
 * bootstrap node and three storing nodes beside it, since a bootstrap node by itself stores no announcements and an
 * announcement wants several keepers.
 */
import HyperDHT from 'hyperdht'
import { isIPv4 } from 'node:net'
import { KithError } from '../base/errors.js'
import { randomBytes } from '../base/random.js'

export interface DhtNode {
  /** What the others give to --bootstrap. */
  address: string
  close(): Promise<void>
}

const keepers = 3
const attempts = 20

/**
 * @param host the IPv4 address under which the others reach this machine (127.0.0.1 for one machine only)
 * @param port UDP port of the bootstrap node; 0 takes a free one
 * @throws KithError usage (host), busy (port)
 */
export async function runDhtNode({ host, port }: { host: string; port: number }): Promise<DhtNode> {
  if (!isIPv4(host) || host === '0.0.0.0')
    throw new KithError('usage', `'${host}' is no address others can reach; give this machine's IPv4 address`)
  const nodes: HyperDHT[] = []
  const close = async () => {
    for (const node of nodes.reverse()) await node.destroy({ force: true })
  }
  try {
    const first = await bootstrapNode(host, port)
    nodes.push(first.node)
    const address = `${host}:${first.port}`
    for (let i = 0; i < keepers; i++) {
      const node = new HyperDHT({
        host,
        port: freePort(),
        bootstrap: [address],
        ephemeral: false,
        firewalled: false,
      })
      nodes.push(node)
      await node.fullyBootstrapped()
    }
    return { address, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function bootstrapNode(host: string, port: number): Promise<{ node: HyperDHT; port: number }> {
  for (let attempt = 1; ; attempt++) {
    const wanted = port === 0 ? freePort() : port
    const node = HyperDHT.bootstrapper(wanted, host, { host })
    try {
      await node.fullyBootstrapped()
      return { node, port: wanted }
    } catch (cause) {
      await node.destroy({ force: true }).catch(() => undefined)
      if (port === 0 && attempt < attempts) continue
      throw new KithError('busy', `UDP port ${wanted} on ${host} cannot be had; give another with --port`, {
        cause,
      })
    }
  }
}

/** A port that is likely free, below the range that Linux hands out by itself. */
export function freePort(): number {
  return 20_000 + (randomBytes(2).readUInt16LE(0) % 12_000)
}
