/**
 * A world of kith for end-to-end tests: a private DHT and any number of nodes with homes of their own, all through the
 * built `kith` command, each daemon a process of its own. When the test ends, whatever happened, everything is gone:
 * mounts, processes, files. All paths lie in one temporary directory, by whose name processes and mounts are found.
 */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { KithError } from '../../lib/base/errors.js'
import type { Params, PartnerInfo, Result, SnapshotRow, Status, VolumeStatus } from '../../lib/daemon/api.js'
import { ControlClient } from '../../lib/daemon/control-client.js'

const kithMain = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url))

export interface Ended {
  /** exit code */
  code: number
  stdout: string
  stderr: string
}

function environment(): NodeJS.ProcessEnv {
  const env = { ...process.env }
  delete env.KITH_HOME
  delete env.NODE_V8_COVERAGE
  return env
}

/**
 * Runs `kith` to its end.
 * @param under what runs it, as in ['nsenter', '--net=FILE']
 */
export function runKith(args: string[], under: readonly string[] = []): Promise<Ended> {
  const [command = '', ...rest] = [...under, process.execPath, kithMain, ...args]
  return new Promise((resolve) => {
    const options = { env: environment(), maxBuffer: 64 * 1024 * 1024 }
    execFile(command, rest, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 255
      resolve({ code, stdout, stderr })
    })
  })
}

export class KithNode {
  readonly home: string
  readonly phraseFile: string

  constructor(
    readonly world: KithWorld,
    readonly name: string,
    private readonly under: readonly string[] = [],
  ) {
    this.home = world.path(`home-${name}`)
    this.phraseFile = world.path(`phrase-${name}`)
  }

  /** A command with --json: what it prints, parsed. Throws with its stderr when it fails. */
  async run<T = unknown>(...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.try(...args, '--json')
    if (code !== 0)
      throw new Error(`kith ${args.join(' ')} (${this.name}): exit code ${code}: ${stderr.trim()}`)
    return JSON.parse(stdout) as T
  }

  /** A command as a person would type it, whatever its end. */
  try(...args: string[]): Promise<Ended> {
    return runKith(['--home', this.home, '--bootstrap', this.world.bootstrap, ...args], this.under)
  }

  init(): Promise<{ id: string }> {
    return this.run('init', '--name', this.name, '--phrase-out', this.phraseFile)
  }

  /** Joins the circle of `other`. */
  async join(other: KithNode): Promise<void> {
    const { code } = await other.run<{ code: string }>('invite')
    await this.run('join', code)
  }

  snapshot(dir: string): Promise<SnapshotRow> {
    return this.run('snapshot', dir)
  }

  snapshots(dir: string): Promise<SnapshotRow[]> {
    return this.run('snapshots', dir)
  }

  sync(dir: string, seconds = 120): Promise<unknown> {
    return this.run('sync', dir, '--timeout', String(seconds))
  }

  status(): Promise<Status> {
    return this.ask('status', {})
  }

  async volume(dir: string): Promise<VolumeStatus> {
    const found = (await this.status()).volumes.find((volume) => volume.dir === dir)
    if (!found) throw new Error(`${this.name} has no volume ${dir}`)
    return found
  }

  async partners(): Promise<PartnerInfo[]> {
    return (await this.ask('partners', {})).partners
  }

  /**
   * What the command prints, asked of the daemon itself while one runs: who waits asks again and again, and a command costs
   * some 150 ms of the processor.
   */
  private async ask<M extends 'status' | 'partners'>(method: M, params: Params<M>): Promise<Result<M>> {
    const client = await ControlClient.connect(this.home)
    if (!client) return this.run(method)
    try {
      return await client.call(method, params)
    } catch (error) {
      // One that was just killed may have been on its way out: the command starts another.
      if (error instanceof KithError && error.code === 'noDaemon') return await this.run(method)
      throw error
    } finally {
      client.close()
    }
  }

  /** Waits until this many partners are on line. */
  async waitForPartners(count: number, seconds = 60): Promise<void> {
    await until(`${this.name} has ${count} partners on line`, seconds, async () => {
      const on = (await this.partners()).filter((partner) => partner.online)
      return on.length >= count
    })
  }

  /** The process of the daemon, or undefined when none runs. */
  daemonPid(): number | undefined {
    return this.world
      .processes()
      .find(({ args }) => args.includes(this.home) && args.some((arg) => arg.endsWith('daemon/main.js')))?.pid
  }

  /** The process of kith-fuse that serves a directory of this node, or undefined. */
  fusePid(): number | undefined {
    return this.world
      .processes()
      .find(({ args }) => args[0]?.endsWith('kith-fuse') && args.some((arg) => arg.startsWith(this.home)))
      ?.pid
  }

  /** kill -9, and waits until the process is gone. */
  async killDaemon(): Promise<void> {
    await killAndWait(this.daemonPid(), `the daemon of ${this.name}`)
  }

  async killFuse(): Promise<void> {
    await killAndWait(this.fusePid(), `kith-fuse of ${this.name}`)
  }
}

interface Process {
  pid: number
  args: string[]
}

export class KithWorld {
  bootstrap = ''
  readonly root: string
  readonly #children: ChildProcess[] = []

  private constructor() {
    this.root = mkdtempSync(join(realpathSync(tmpdir()), 'kith-world-'))
  }

  /** @param dht where the private DHT runs; not given: on loopback */
  static async start(t: Test, dht?: { address: string; under: readonly string[] }): Promise<KithWorld> {
    const world = new KithWorld()
    t.teardown(() => world.end())
    const args = dht ? ['dht', '--host', dht.address] : ['dht']
    const { address } = await world.stay<{ address: string }>(args, dht?.under)
    world.bootstrap = address
    return world
  }

  path(...names: string[]): string {
    return join(this.root, ...names)
  }

  /** Makes a directory. */
  directory(...names: string[]): string {
    const path = this.path(...names)
    mkdirSync(path, { recursive: true })
    return path
  }

  /** A node with an identity. Its daemon runs from now on. */
  async node(name: string, under: readonly string[] = []): Promise<KithNode> {
    const node = new KithNode(this, name, under)
    await node.init()
    return node
  }

  /** An owner with a circle, and partners in it that it sees on line. */
  async circle(partners: number): Promise<{ owner: KithNode; partners: KithNode[] }> {
    const owner = await this.node('owner')
    await owner.run('circle', 'create', 'friends')
    const nodes: KithNode[] = []
    for (let i = 1; i <= partners; i++) {
      const node = await this.node(`partner-${i}`)
      await node.join(owner)
      nodes.push(node)
    }
    await owner.waitForPartners(partners)
    return { owner, partners: nodes }
  }

  /** Starts a command that stays, and gives the first JSON line that it prints. */
  stay<T>(args: string[], under: readonly string[] = []): Promise<T> {
    const [command = '', ...rest] = [...under, process.execPath, kithMain, ...args, '--json']
    const child = spawn(command, rest, {
      env: environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#children.push(child)
    return new Promise((resolve, reject) => {
      let out = ''
      let errors = ''
      child.stderr.on('data', (data: Buffer) => (errors = (errors + data.toString()).slice(-2000)))
      child.stdout.on('data', (data: Buffer) => {
        out += data.toString()
        const end = out.indexOf('\n')
        if (end >= 0) resolve(JSON.parse(out.slice(0, end)) as T)
      })
      child.once('error', reject)
      child.once('exit', (code) => reject(new Error(`kith ${args.join(' ')} ended with ${code}: ${errors}`)))
    })
  }

  /** Every process that has a path of this world among its arguments. */
  processes(): Process[] {
    const found: Process[] = []
    for (const pid of readdirSync('/proc')) {
      if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue
      const args = argumentsOf(pid)
      if (args.some((arg) => arg.includes(this.root))) found.push({ pid: Number(pid), args })
    }
    return found
  }

  /** Mount points below this world, deepest first. */
  mounts(): string[] {
    return readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => unescapeMount(line.split(' ')[4] ?? ''))
      .filter((path) => path.startsWith(`${this.root}/`))
      .sort((a, b) => b.length - a.length)
  }

  /** Ends and removes everything. */
  async end(): Promise<void> {
    this.unmountAll()
    for (const { pid } of this.processes()) signal(pid, 'SIGTERM')
    for (const child of this.#children) child.kill('SIGTERM')
    await until('all processes have ended', 60, () => Promise.resolve(this.#allEnded())).catch(() => {
      for (const { pid } of this.processes()) signal(pid, 'SIGKILL')
      for (const child of this.#children) child.kill('SIGKILL')
    })
    await until('all processes are gone', 60, () => Promise.resolve(this.#allEnded()))
    this.unmountAll()
    execFileSync('rm', ['-rf', '--one-file-system', this.root])
  }

  unmountAll(): void {
    for (const path of this.mounts()) {
      try {
        execFileSync('umount', ['-l', path], { stdio: 'ignore' })
      } catch {
        execFileSync('fusermount3', ['-uz', path], { stdio: 'ignore' })
      }
    }
  }

  #allEnded(): boolean {
    const running = this.#children.some((child) => child.exitCode === null && child.signalCode === null)
    return !running && this.processes().length === 0
  }
}

function argumentsOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')
  } catch {
    return []
  }
}

function unescapeMount(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)))
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // Gone already.
  }
}

async function killAndWait(pid: number | undefined, what: string): Promise<void> {
  if (pid === undefined) throw new Error(`${what} does not run`)
  process.kill(pid, 'SIGKILL')
  await until(`${what} is gone`, 60, () => Promise.resolve(isGone(pid)))
}

/** A zombie has no arguments left. */
function isGone(pid: number): boolean {
  return !existsSync(`/proc/${pid}`) || argumentsOf(String(pid)).join('') === ''
}

/** Asks again and again until it is so. */
export async function until(what: string, seconds: number, isSo: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + seconds * 1000
  while (!(await isSo())) {
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${what}`)
    await delay(50)
  }
}
