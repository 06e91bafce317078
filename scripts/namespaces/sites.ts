/**
 * Several machines on this one: network namespaces, joined by virtual cables that can be slow, thin or cut.
 *
 *     host --- site's bridge, gateway .1 --- wire (delay) --- core (routes between sites)
 *
 * Each site is a /24 with a namespace of its own, each host too; `core` routes, and the wires lie in one more, where nothing has an
 * address. Nothing leads out of them: the core has no way to the machine's own network. The delay is one of `delay.py`, a program
 * between two packet sockets, since not every kernel has netem; it counts each way, once for each wire on the path.
 *
 * Every name begins with `kith-PID-`. `remove` kills what runs in them and takes all away; it also runs when the process exits.
 * What a killed process left is taken away by the next that makes some.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export interface Site {
  name: string
  /** the first three numbers of its addresses, as in 10.1.2 */
  net: string
  /** each way between it and the core, ms */
  delayMs: number
}

export interface Host {
  readonly name: string
  readonly site: string
  readonly address: string
  /** begins a command that is to run there; files and mounts are those of the machine */
  readonly under: string[]
}

const delayProgram = fileURLToPath(new URL('../../../scripts/namespaces/delay.py', import.meta.url))
const folder = '/run/netns'

function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/** Why there can be no namespaces here; undefined: there can. */
export function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  const name = `kith-${process.pid}-try`
  try {
    ip('netns', 'add', name)
    ip('-n', name, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'other')
    return undefined
  } catch (error) {
    return `network namespaces cannot be made: ${String(error).trim()}`
  } finally {
    if (existsSync(`${folder}/${name}`)) ip('netns', 'del', name)
  }
}

export class Namespaces {
  private readonly prefix = `kith-${process.pid}-`
  private readonly hosts = new Map<string, { host: Host; last: number }>()
  private readonly wires: ChildProcess[] = []
  private readonly onExit = () => this.remove()

  private constructor(private readonly sites: readonly Site[]) {}

  /** @throws when there can be none, having removed what was made */
  static async make(sites: readonly Site[]): Promise<Namespaces> {
    sweep()
    const made = new Namespaces(sites)
    process.once('exit', made.onExit)
    try {
      made.addNamespace('core')
      made.addNamespace('wires')
      for (const [i, site] of sites.entries()) await made.addSite(i, site)
      return made
    } catch (error) {
      made.remove()
      throw error
    }
  }

  /** A machine at a site. */
  add(name: string, site: string): Host {
    const { net } = this.site(site)
    this.addNamespace(name)
    this.in(
      site,
      'link',
      'add',
      `to-${name}`,
      'type',
      'veth',
      'peer',
      'name',
      'eth',
      'netns',
      this.full(name),
    )
    this.in(site, 'link', 'set', `to-${name}`, 'master', 'bridge', 'up')
    const last = 10 + this.hosts.size
    const host = { name, site, address: `${net}.${last}`, under: this.under(name) }
    this.hosts.set(name, { host, last })
    this.in(name, 'link', 'set', 'eth', 'up')
    this.settle(host)
    return host
  }

  /** Gives the host another address of its site. */
  readdress(name: string): Host {
    const known = this.known(name)
    const last = known.last + 100
    const host = { ...known.host, address: `${this.site(known.host.site).net}.${last}` }
    this.hosts.set(name, { host, last })
    this.in(name, 'address', 'flush', 'dev', 'eth')
    this.settle(host)
    return host
  }

  /** Pulls the cable of a host, or of a whole site. */
  cut(name: string): void {
    for (const [where, cable] of this.cables(name)) this.in(where, 'link', 'set', cable, 'down')
  }

  mend(name: string): void {
    for (const [where, cable] of this.cables(name)) this.in(where, 'link', 'set', cable, 'up')
  }

  /** Bounds what the host can send. */
  bound(name: string, megabitsPerSecond: number): void {
    const rate = ['rate', `${megabitsPerSecond}mbit`, 'burst', '64kb', 'latency', '200ms']
    execFileSync('tc', ['-n', this.full(name), 'qdisc', 'replace', 'dev', 'eth', 'root', 'tbf', ...rate])
  }

  /** Bytes that the host has sent to the network. */
  sent(name: string): number {
    const [command = '', ...args] = this.under(name)
    const table = execFileSync(command, [...args, 'cat', '/proc/self/net/dev'], { encoding: 'utf8' })
    const line = table.split('\n').find((row) => row.trim().startsWith('eth:'))
    return Number(line?.trim().split(/\s+/)[9])
  }

  remove(): void {
    process.off('exit', this.onExit)
    for (const wire of this.wires.splice(0)) wire.kill('SIGKILL')
    removeAll(this.prefix)
  }

  private async addSite(number: number, site: Site): Promise<void> {
    const { name, net, delayMs } = site
    this.addNamespace(name)
    this.in(name, 'link', 'add', 'bridge', 'type', 'bridge')
    this.in(name, 'address', 'add', `${net}.1/24`, 'dev', 'bridge')
    this.in(name, 'link', 'set', 'bridge', 'up')
    const between = `172.31.${number}`
    const [near, far] = this.ends(name)
    this.in('wires', 'link', 'add', near, 'type', 'veth', 'peer', 'name', 'out', 'netns', this.full(name))
    this.in('wires', 'link', 'add', far, 'type', 'veth', 'peer', 'name', name, 'netns', this.full('core'))
    this.in(name, 'address', 'add', `${between}.2/24`, 'dev', 'out')
    this.in('core', 'address', 'add', `${between}.1/24`, 'dev', name)
    for (const [where, link] of [...this.cables(name), [name, 'out'], ['core', name]] as const)
      this.in(where, 'link', 'set', link, 'up')
    this.in(name, 'route', 'add', 'default', 'via', `${between}.1`)
    this.in('core', 'route', 'add', `${net}.0/24`, 'via', `${between}.2`)
    for (const where of [name, 'core']) this.forward(where)
    await this.startWire(delayMs, near, far)
  }

  private async startWire(delayMs: number, near: string, far: string): Promise<void> {
    const [command = '', ...args] = [...this.under('wires'), 'python3', delayProgram]
    const wire = spawn(command, [...args, String(delayMs), near, far], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.wires.push(wire)
    await new Promise<void>((resolve, reject) => {
      wire.stdout.once('data', () => resolve())
      wire.once('error', reject)
      wire.once('exit', (code) => reject(new Error(`a wire ended (${code})`)))
    })
  }

  /** The two ends of a site's wire. */
  private ends(site: string): [near: string, far: string] {
    return [`${site}-a`, `${site}-b`]
  }

  private cables(name: string): (readonly [where: string, cable: string])[] {
    const host = this.hosts.get(name)?.host
    return host ? [[host.site, `to-${name}`]] : this.ends(this.site(name).name).map((end) => ['wires', end])
  }

  private settle({ name, site, address }: Host): void {
    this.in(name, 'address', 'add', `${address}/24`, 'dev', 'eth')
    this.in(name, 'route', 'replace', 'default', 'via', `${this.site(site).net}.1`)
  }

  private addNamespace(name: string): void {
    ip('netns', 'add', this.full(name))
    this.in(name, 'link', 'set', 'lo', 'up')
  }

  private forward(name: string): void {
    const [command = '', ...args] = this.under(name)
    execFileSync(command, [...args, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward'])
  }

  private in(name: string, ...args: string[]): string {
    return ip('-n', this.full(name), ...args)
  }

  private full(name: string): string {
    return this.prefix + name
  }

  private under(name: string): string[] {
    return ['nsenter', `--net=${folder}/${this.full(name)}`]
  }

  private site(name: string): Site {
    const found = this.sites.find((site) => site.name === name)
    if (!found) throw new Error(`there is no site or host '${name}'`)
    return found
  }

  private known(name: string): { host: Host; last: number } {
    const found = this.hosts.get(name)
    if (!found) throw new Error(`there is no host '${name}'`)
    return found
  }
}

/** Removes what processes left that are gone. */
function sweep(): void {
  if (!existsSync(folder)) return
  const owners = readdirSync(folder).map((name) => /^kith-(\d+)-/.exec(name)?.[1])
  for (const pid of new Set(owners)) {
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) removeAll(`kith-${pid}-`)
  }
}

function removeAll(prefix: string): void {
  if (!existsSync(folder)) return
  for (const name of readdirSync(folder).filter((one) => one.startsWith(prefix))) {
    for (const pid of ip('netns', 'pids', name).split('\n').filter(Boolean).map(Number)) kill(pid)
    ip('netns', 'del', name)
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone already.
  }
}
