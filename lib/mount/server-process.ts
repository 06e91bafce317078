/** Starts kith-fuse as a process that outlives this one, and waits until it serves; tells whether it is held up. */
import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Clock } from '../base/clock.js'
import { KithError, type ErrorCode } from '../base/errors.js'
import { nativeFile } from '../base/native-files.js'

const startMs = 20_000
const maxLogBytes = 1 << 20
const maxLineBytes = 4096

export interface ServerOptions {
  /** canonical path to mount over */
  dir: string
  /** open on that directory */
  rootFd: number
  stateDir: string
  clock: Clock
}

/** Resolves when the mount serves. Throws a KithError with what kith-fuse says. */
export async function spawnServer({ dir, rootFd, stateDir, clock }: ServerOptions): Promise<void> {
  const log = openLogFile(join(stateDir, 'fuse.log'))
  const args = ['--dir-fd', '3', '--mountpoint', dir, '--state', stateDir]
  let child
  try {
    child = spawn(nativeFile('kith-fuse'), args, {
      cwd: '/',
      detached: true,
      stdio: ['ignore', 'pipe', log, rootFd],
    })
  } finally {
    closeSync(log)
  }
  const failed = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message))
  })
  const timer = clock.after(startMs, () => child.kill('SIGKILL'))
  const line = await Promise.race([firstLine(child.stdout as Readable), failed])
  timer.cancel()
  child.stdout?.destroy()
  child.unref()
  if (line === 'ready') return
  const why = line === '' ? `it ended without a word; see ${join(stateDir, 'fuse.log')}` : line
  throw new KithError(codeOf(line), `cannot mount ${dir}: ${why}`)
}

/** Whether the process was stopped by a signal or a debugger (proc_pid_stat(5)): it does nothing until it is let go on. */
export function isHeldUp(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name before it may hold spaces and brackets.
    return /^[Tt]/.test(stat.slice(stat.lastIndexOf(')') + 2))
  } catch {
    return false // it is gone, which the bridge tells
  }
}

function codeOf(line: string): ErrorCode {
  if (line.includes('another kith-fuse')) return 'busy'
  if (line.includes('cannot open /dev/fuse') || line.includes('fusermount3 (')) return 'unsupported'
  return /not permitted|denied|fusermount3 could/.test(line) ? 'denied' : 'internal'
}

function openLogFile(path: string): number {
  let bytes = 0
  try {
    bytes = statSync(path).size
  } catch {
    // The first mount of this volume.
  }
  return openSync(path, bytes > maxLogBytes ? 'w' : 'a', 0o600)
}

/** The first line, or what there was when the stream ended. */
function firstLine(stream: Readable): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    stream.on('data', (bytes: Buffer) => {
      text += bytes.toString()
      const end = text.indexOf('\n')
      if (end >= 0 || text.length > maxLineBytes) resolve(text.slice(0, end < 0 ? maxLineBytes : end))
    })
    stream.on('close', () => resolve(text.trim()))
  })
}
