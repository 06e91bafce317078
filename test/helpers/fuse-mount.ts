/**
 * A directory served by a kith-fuse of its own, started without a daemon, for tests of the live tree. Everything is gone
 * when the test ends: the mount, the process, the files.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
} from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { nativeFile } from '../../lib/base/native-files.js'

const patience = 60_000

export interface MountOptions {
  /** run kith-fuse as this user, who mounts by fusermount3 */
  uid?: number
  /** that user's further groups */
  groups?: number[]
  /** another build of it */
  program?: string
  /** where its folders are made; default: the temporary directory */
  place?: string
  /** added to the environment of kith-fuse */
  environment?: Record<string, string>
  /** called with the directory before it is mounted over */
  prepare?: (dir: string) => Promise<void>
}

export class TestMount {
  /** where the mount is */
  readonly dir: string
  /** an ordinary directory beside it, on the same file system */
  readonly bare: string
  /** where kith-fuse keeps the change log and its socket */
  readonly state: string
  /** the same files as `dir`, not through the mount */
  readonly under: string
  readonly pid: number
  #stopped = false

  private constructor(
    readonly base: string,
    private readonly rootFd: number,
    private readonly child: ChildProcess,
  ) {
    this.dir = join(base, 'dir')
    this.bare = join(base, 'bare')
    this.state = join(base, 'state')
    this.under = `/proc/${process.pid}/fd/${rootFd}`
    this.pid = child.pid ?? 0
  }

  static async start(base: string, options: MountOptions): Promise<TestMount> {
    for (const name of ['dir', 'bare', 'state']) {
      mkdirSync(join(base, name), { mode: 0o755, recursive: true })
      chownSync(join(base, name), options.uid ?? 0, options.uid ?? 0)
    }
    // Some machines close the device to users. It stays open: other tests that need it may be running.
    if (options.uid !== undefined) chmodSync('/dev/fuse', 0o666)
    await options.prepare?.(join(base, 'dir'))
    const log = openSync(join(base, 'fuse.log'), 'a')
    const rootFd = openSync(join(base, 'dir'), 'r')
    const args = ['--dir-fd', '3', '--mountpoint', join(base, 'dir'), '--state', join(base, 'state')]
    const { program = nativeFile('kith-fuse'), uid, groups } = options
    const inGroups = uid !== undefined && groups !== undefined
    const child = spawn(
      inGroups ? 'setpriv' : program,
      inGroups ? inGroupsArgs(uid, groups, program, args) : args,
      {
        ...(uid === undefined || inGroups ? {} : { uid, gid: uid }),
        env: { ...process.env, ...options.environment },
        detached: true,
        stdio: ['ignore', 'pipe', log, rootFd],
      },
    )
    closeSync(log)
    const mount = new TestMount(base, rootFd, child)
    const [line] = (await once(child.stdout as Readable, 'data')) as [Buffer]
    if (line.toString() !== 'ready\n') throw new Error(`kith-fuse: ${line.toString()}${mount.log}`)
    return mount
  }

  /** what kith-fuse wrote to its standard error */
  get log(): string {
    return readFileSync(join(this.base, 'fuse.log'), 'utf8')
  }

  get ended(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null
  }

  get exitCode(): number | null {
    return this.child.exitCode
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name)
  }

  /** Resolves when the process has ended. */
  async end(): Promise<void> {
    await waitFor(() => this.ended, 'the end of kith-fuse')
  }

  /** Ends it as it should end, or else by force. May be called again. */
  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    if (!this.ended) this.signal('SIGTERM')
    try {
      await this.end()
    } catch {
      this.signal('SIGKILL')
      await this.end()
    }
    closeSync(this.rootFd)
    if (isMounted(this.dir)) await run('umount', ['-l', this.dir])
  }
}

/** The arguments of setpriv(1), which becomes the program itself. */
export function inGroupsArgs(uid: number, groups: number[], program: string, args: string[]): string[] {
  return [`--reuid=${uid}`, `--regid=${uid}`, `--groups=${[uid, ...groups].join()}`, program, ...args]
}

/** Polls until `holds` does. Throws when it never does. */
export async function waitFor(holds: () => boolean, what: string): Promise<void> {
  const start = process.hrtime.bigint()
  while (!holds()) {
    if (process.hrtime.bigint() - start > BigInt(patience) * 1_000_000n)
      throw new Error(`${what} did not come`)
    await delay(5)
  }
}

export function isMounted(dir: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[4] === dir)
}

export async function mountForTest(t: Test, options: MountOptions = {}): Promise<TestMount> {
  const base = mkdtempSync(join(options.place ?? tmpdir(), 'kith-fuse-'))
  chmodSync(base, 0o755)
  const mounts: TestMount[] = []
  t.setTimeout(240_000)
  t.teardown(async () => {
    for (const mount of mounts) await mount.stop()
    await ran('rm', ['-rf', base]) // not by rmSync: paths may be longer than PATH_MAX
  })
  const mount = await TestMount.start(base, options)
  mounts.push(mount)
  return mount
}

export interface Ran {
  code: number
  stdout: string
  stderr: string
}

/** Runs a program to its end, without a shell. */
export function run(
  program: string,
  args: string[],
  options: { cwd?: string; uid?: number } = {},
): Promise<Ran> {
  const { cwd = '/', uid } = options
  return new Promise((resolve) => {
    execFile(
      program,
      args,
      { cwd, maxBuffer: 1 << 28, ...(uid === undefined ? {} : { uid, gid: uid }) },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 255
        resolve({ code, stdout, stderr: stderr + (error?.signal ?? '') })
      },
    )
  })
}

/** The same, and throws when it fails. */
export async function ran(
  program: string,
  args: string[],
  options: { cwd?: string; uid?: number } = {},
): Promise<string> {
  const { code, stdout, stderr } = await run(program, args, options)
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: exit code ${code}: ${stderr.slice(-2000)}`)
  return stdout
}

/** A program of test/fuse/programs. */
export function testProgram(name: string): string {
  const path = fileURLToPath(new URL(`../../../test/fuse/programs/${name}`, import.meta.url))
  if (!existsSync(path)) throw new Error(`there is no ${path}`)
  return path
}
