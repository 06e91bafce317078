/** Processes of the try-out: the kith command, daemons in the foreground, and their end, whatever happens. */
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export const kithMain = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url))

const started = new Set<ChildProcess>()

/** Runs `kith ARGS --json` and returns what it prints, parsed. Throws what it says on stderr. */
export function kith<T>(args: string[], home: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const all = [kithMain, ...args, '--home', home, '--json']
    execFile(process.execPath, all, { maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`kith ${args.join(' ')}: ${stderr.trim() || error.message}`))
      else resolve(JSON.parse(stdout) as T)
    })
  })
}

/**
 * Starts a kith command that stays, and resolves with the first JSON line that it prints.
 * @param under what runs it, as in ['nsenter', '--net=FILE']
 */
export function start<T>(
  args: string[],
  under: readonly string[] = [],
): Promise<{ child: ChildProcess; ready: T }> {
  const [command = '', ...rest] = [...under, process.execPath, kithMain, ...args, '--json']
  // A process group of its own: Ctrl-C is for us, who then end the others in order.
  const child = spawn(command, rest, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  started.add(child)
  return new Promise((resolve, reject) => {
    let out = ''
    let errors = ''
    child.stderr.on('data', (data: Buffer) => (errors = (errors + data.toString()).slice(-2000)))
    child.stdout.on('data', (data: Buffer) => {
      out += data.toString()
      const end = out.indexOf('\n')
      if (end >= 0) resolve({ child, ready: JSON.parse(out.slice(0, end)) as T })
    })
    child.on('exit', (code) => {
      started.delete(child)
      reject(new Error(`kith ${args.join(' ')} ended (${code}): ${errors.trim()}`))
    })
  })
}

/** Ends one of ours: asked first, killed after 10 s. */
export function end(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
    child.once('exit', () => {
      clearTimeout(timer)
      resolve()
    })
    child.kill('SIGTERM')
  })
}

export async function endAll(): Promise<void> {
  await Promise.all([...started].map(end))
}

/** For the last moment of this process, when nothing can be awaited any more. */
export function killAll(): void {
  for (const child of started) child.kill('SIGKILL')
}

/** Takes a mount away even when nobody answers for it. No error when there is none. */
export function forceUnmount(dir: string): void {
  const umount = spawnSync('umount', ['-l', dir], { stdio: 'ignore' })
  if (umount.status !== 0) spawnSync('fusermount3', ['-uz', dir], { stdio: 'ignore' })
}
