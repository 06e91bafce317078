/** Runs the `kith` command as a user does, in homes that are gone, with their daemons and mounts, when the test ends. */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { KithError } from '../../lib/base/errors.js'
import type { Status, VolumeStatus } from '../../lib/daemon/api.js'
import { ControlClient } from '../../lib/daemon/control-client.js'
import { execFileSync } from 'node:child_process'

export const kithMain = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url))

export interface Ran {
  code: number | null
  stdout: string
  stderr: string
  /** stdout, parsed */
  json: unknown
}

export interface RunOptions {
  input?: string
  env?: Record<string, string>
  /** what runs node, e.g. ['unshare', '-m', 'sh', '-c', '...; exec "$@"', 'sh'] */
  under?: string[]
}

export class TestHome {
  readonly base: string
  readonly home: string

  constructor(t: Test, base = mkdtempSync(join(tmpdir(), 'kith-cli-'))) {
    this.base = base
    this.home = join(base, 'home')
    t.teardown(() => this.#cleanUp())
  }

  /** A directory beside the home. */
  dir(name: string): string {
    const path = join(this.base, name)
    mkdirSync(path, { recursive: true })
    return path
  }

  kith(args: string[], options: RunOptions = {}): Promise<Ran> {
    const [command = '', ...rest] = [...(options.under ?? []), process.execPath, kithMain, ...args]
    const env = { ...process.env, KITH_HOME: this.home, ...options.env }
    return new Promise((resolve, reject) => {
      const child = spawn(command, rest, { env, stdio: ['pipe', 'pipe', 'pipe'] })
      let stdout = ''
      let stderr = ''
      child.stdout.on('data', (data: Buffer) => (stdout += data.toString()))
      child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
      child.on('error', reject)
      child.on('close', (code) => resolve({ code, stdout, stderr, json: parsed(stdout) }))
      child.stdin.end(options.input ?? '')
    })
  }

  /** Runs with --json and gives what it prints; throws when it fails. */
  async ask<T>(args: string[], options: RunOptions = {}): Promise<T> {
    const ran = await this.kith([...args, '--json'], options)
    if (ran.code !== 0) throw new Error(`kith ${args.join(' ')}: exit ${ran.code}: ${ran.stderr}`)
    return ran.json as T
  }

  /** The process id of the daemon that has the lock, if it lives. */
  daemonPid(): number | undefined {
    try {
      const pid = Number(readFileSync(join(this.home, 'kithd.lock'), 'utf8'))
      process.kill(pid, 0)
      return pid
    } catch {
      return undefined
    }
  }

  /** The kith-fuse processes that serve mounts of this home. */
  fusePids(): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => {
        try {
          const exe = readlinkSync(`/proc/${pid}/exe`)
          return (
            exe.endsWith('/kith-fuse') && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(this.home)
          )
        } catch {
          return false
        }
      })
      .map(Number)
  }

  /** Mount points beside the home. */
  mountCount(): number {
    const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
    return lines.filter((line) => line.split(' ')[4]?.startsWith(`${this.base}/`)).length
  }

  /** What status says of the first volume. The daemon is started if none runs. */
  async volume(): Promise<VolumeStatus | undefined> {
    return (await this.#status()).volumes[0]
  }

  /** Asked of a running daemon itself: who waits asks again and again, and a command costs some 100 ms of the processor. */
  async #status(): Promise<Status> {
    const client = await ControlClient.connect(this.home)
    if (!client) return this.ask(['status'])
    try {
      return await client.call('status', {})
    } catch (error) {
      // One that was on its way out: the command starts another.
      if (error instanceof KithError && error.code === 'noDaemon') return await this.ask(['status'])
      throw error
    } finally {
      client.close()
    }
  }

  async #cleanUp(): Promise<void> {
    await this.kith(['stop']).catch(() => undefined)
    const pid = this.daemonPid()
    if (pid !== undefined) process.kill(pid, 'SIGKILL')
    const table = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').reverse()
    for (const line of table) {
      const point = line.split(' ')[4]
      if (point?.startsWith(`${this.base}/`)) execFileSync('umount', ['-l', point])
    }
    rmSync(this.base, { recursive: true, force: true })
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Waits until `what` holds; fails after `seconds`. */
export async function until(what: () => boolean | Promise<boolean>, seconds = 60): Promise<void> {
  const end = performance.now() + seconds * 1000
  while (!(await what())) {
    if (performance.now() > end) throw new Error(`waited ${seconds} s in vain: ${what.toString()}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
