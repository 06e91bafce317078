/** Directories mounted by kith for a test, taken off and removed whatever happens. */
import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { Mount } from '../../lib/mount/mount.js'
import type { MountOptions } from '../../lib/mount/types.js'

export interface Place {
  options: MountOptions
  /** the directory to mount */
  dir: string
  stateDir: string
  /** Runs a shell script with the directory as its working directory; gives its output, or throws with its errors. */
  sh(script: string): Promise<string>
  mount(): Promise<Mount>
}

/** A directory and a home of their own. */
export async function place(t: Test): Promise<Place> {
  const base = await mkdtemp(join(tmpdir(), 'kith-mount-'))
  const dir = join(base, 'dir')
  const home = join(base, 'home')
  mkdirSync(dir)
  mkdirSync(home, { mode: 0o700 })
  const volumeId = Buffer.alloc(16, 0xab)
  const options = { dir, home, volumeId, clock: systemClock, log: silentLog() }
  const stateDir = join(home, 'mounts', volumeId.toString('hex'))
  // A daemon has its control socket to live for; the clock's timers keep no process alive.
  const alive = setInterval(() => undefined, 1000)
  t.teardown(async () => {
    clearInterval(alive)
    // A test that failed may leave more than one.
    for (
      let tries = 0;
      tries < 4 && (await readFile('/proc/self/mountinfo', 'utf8')).includes(` ${dir} `);
      tries++
    )
      await shell('/', `umount -l '${dir}'`)
    for (const pid of await serversOf(stateDir)) process.kill(pid, 'SIGKILL')
    await rm(base, { recursive: true, force: true })
  })
  return { options, dir, stateDir, sh: (script) => shell(dir, script), mount: () => Mount.start(options) }
}

function shell(cwd: string, script: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const command = `cd '${cwd}' && { ${script}\n}`
    execFile('bash', ['-c', command], { maxBuffer: 1 << 28, timeout: 180_000 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${script}: ${stderr || error.message}`))
      else resolve(stdout)
    })
  })
}

/** The kith-fuse processes that serve this state directory. */
export async function serversOf(stateDir: string): Promise<number[]> {
  const listed = await new Promise<string>((resolve) => {
    execFile('pgrep', ['-f', `kith-fuse .*--state ${stateDir}$`], (_error, stdout) => resolve(stdout))
  })
  return listed.split('\n').filter(Boolean).map(Number)
}

/** Waits until the condition holds; fails the test after a minute. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = systemClock.monotonic() + 60_000
  while (!(await condition())) {
    if (systemClock.monotonic() > deadline) throw new Error(`waited in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
