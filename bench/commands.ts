/** Runs the programs that are measured: bounded in time, with their output kept for the message when one fails. */
import { execFile, spawnSync } from 'node:child_process'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../..', import.meta.url))
const kithMain = fileURLToPath(new URL('../lib/cli/main.js', import.meta.url))

/** No single measured command takes longer. */
const boundMs = 30 * 60_000

export interface Outcome {
  stdout: string
  seconds: number
}

/** Aborted by Ctrl-C: what runs ends, and what was mounted is unmounted on the way out. */
export const interrupted = new AbortController()

/** Who runs a program, when not we. */
export interface User {
  uid: number
  gid: number
}

/** Runs a program to its end. Throws, with what it said, unless it exits with 0. */
export function run(program: string, args: string[], user?: User): Promise<Outcome> {
  return start(program, args, { signal: interrupted.signal, ...user })
}

/** The same for what puts things in order again: it runs after Ctrl-C, too. */
export function clean(program: string, args: string[], user?: User): Promise<Outcome> {
  return start(program, args, { ...user })
}

function start(
  program: string,
  args: string[],
  options: Partial<User> & { signal?: AbortSignal },
): Promise<Outcome> {
  const started = performance.now()
  return new Promise((resolve, reject) => {
    const settings = { ...options, timeout: boundMs, maxBuffer: 64 * 1024 * 1024 }
    execFile(program, args, settings, (error, stdout, stderr) => {
      const seconds = (performance.now() - started) / 1000
      if (error)
        reject(new Error(`${program} ${args.join(' ')}: ${error.message}\n${stdout}${stderr}`.trim()))
      else resolve({ stdout, seconds })
    })
  })
}

/** The real `kith` command, as a user's shell would start it. */
export function kith(home: string, ...args: string[]): Promise<Outcome> {
  return run(process.execPath, [kithMain, '--home', home, ...args])
}

/** Unmounts, and ends the daemon of this home. */
export async function endKith(home: string, dir: string): Promise<void> {
  try {
    await clean(process.execPath, [kithMain, '--home', home, 'unmount', dir])
  } finally {
    await clean(process.execPath, [kithMain, '--home', home, 'stop'])
  }
}

export function isInstalled(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${program}`]).status === 0
}
