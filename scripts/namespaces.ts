/**
 * `node dist/scripts/namespaces.js [SITE=NET,DELAY ...]` (as root): machines on this one, to play with kith between them. Makes sites
 * (default: home=10.71.1,0 away=10.72.1,40; the delay counts each way, in ms), with two hosts each, named SITE1 and SITE2, and a
 * private DHT at the first; says how to run commands there; removes everything at Ctrl-C or when its input ends.
 *
 * Typed into it: `cut NAME` and `mend NAME` (a host or a site), `readdress HOST`, `bound HOST MEGABITS`.
 */
import { createInterface } from 'node:readline'
import { Namespaces, whyNot, type Site } from './namespaces/sites.js'
import { endAll, killAll, start } from './try/processes.js'

function parse(text: string): Site {
  const [, name = '', net = '', delay] = /^([a-z]{1,8})=(\d+\.\d+\.\d+),(\d+)$/.exec(text) ?? []
  if (!name) throw new Error(`'${text}' is no site; give one as in: away=10.72.1,40`)
  return { name, net, delayMs: Number(delay) }
}

function obey(network: Namespaces, line: string): string {
  const [order = '', name = '', rate = ''] = line.trim().split(/\s+/)
  if (order === 'cut') network.cut(name)
  else if (order === 'mend') network.mend(name)
  else if (order === 'bound') network.bound(name, Number(rate))
  else if (order === 'readdress') return `${name} is at ${network.readdress(name).address}`
  else return 'type: cut NAME, mend NAME, readdress HOST, bound HOST MEGABITS'
  return `${name}: done`
}

async function play(network: Namespaces, sites: readonly Site[]): Promise<void> {
  const hosts = sites.flatMap(({ name }) => [1, 2].map((n) => network.add(`${name}${n}`, name)))
  const [first] = hosts
  if (!first) throw new Error('give at least one site')
  const { ready } = await start<{ address: string }>(['dht', '--host', first.address], first.under)
  for (const { name, address, under } of hosts) console.log(`${name}\t${address}\t${under.join(' ')} COMMAND`)
  console.log(`kith there: --bootstrap ${ready.address}, and a --home for each`)
  const input = createInterface({ input: process.stdin })
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => input.close())
  for await (const line of input) {
    try {
      console.log(obey(network, line))
    } catch (error) {
      console.error(String(error).trim())
    }
  }
}

const reason = whyNot()
if (reason !== undefined) {
  console.error(reason)
  process.exit(1)
}
const args = process.argv.slice(2)
const sites = (args.length > 0 ? args : ['home=10.71.1,0', 'away=10.72.1,40']).map(parse)
process.once('exit', killAll)
const network = await Namespaces.make(sites)
try {
  await play(network, sites)
} finally {
  await endAll()
  network.remove()
}
