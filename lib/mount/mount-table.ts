/**
 * What is mounted where, from /proc/self/mountinfo, and clearing away mounts whose server is gone.
 *
 * No path that may lead into a FUSE mount is ever looked at by this process: a dead mount answers ENOTCONN, but one whose
 * server is stuck answers never, and would take a thread with it. A child process asks, and is killed after a while.
 */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readFile, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { KithError } from '../base/errors.js'
import { errnoCode } from '../base/posix.js'

/** Of kith-fuse, and of `kith browse`. */
export const mountType = 'fuse.kith'
export const browseType = 'fuse.kith-browse'
const probeMs = 3_000
/** Linux's bound of a path's bytes, with the NUL at its end. */
const pathMax = 4096
/** More mounts over one directory than anyone makes. */
const maxStacked = 16

export interface MountEntry {
  /** as in /proc/PID/fdinfo */
  id: string
  /** of the file system: `major:minor` */
  device: string
  /** which of its directories is mounted */
  root: string
  mountpoint: string
  type: string
}

/** Lines of mountinfo: `id parent major:minor root mountpoint options [tags] - type source super-options`. */
export function parseMountinfo(text: string): MountEntry[] {
  const entries: MountEntry[] = []
  for (const line of text.split('\n')) {
    const fields = line.split(' ')
    const dash = fields.indexOf('-', 6)
    const [id, , device, root, mountpoint] = fields
    const type = fields[dash + 1]
    if (dash < 0 || !id || !device || !root || !mountpoint || type === undefined) continue
    entries.push({ id, device, root: unescape(root), mountpoint: unescape(mountpoint), type })
  }
  return entries
}

/** The kernel writes space, tab, newline and backslash as three octal digits; other bytes stay as they are. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)))
}

/** In the order in which they were mounted: the last one over a directory is the one that is seen. */
export async function mounts(): Promise<MountEntry[]> {
  return parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'))
}

/** Whether a kith mount lies over exactly this canonical path, seen or hidden by another. Never waits. */
export function isMountedAt(dir: string, wanted = mountType): boolean {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8')).some(
    ({ mountpoint, type }) => mountpoint === dir && type === wanted,
  )
}

/** The topmost mount over exactly this directory, if any. */
export async function mountOver(dir: string): Promise<MountEntry | undefined> {
  return (await mounts()).findLast((entry) => entry.mountpoint === dir)
}

/**
 * The directory's path without symlinks, found without entering a kith mount that may lie over it.
 * @throws KithError notFound, denied, usage
 */
export async function canonicalDir(dir: string): Promise<string> {
  const absolute = resolve(dir)
  try {
    if (absolute === '/') return absolute
    if (Buffer.byteLength(absolute) >= pathMax) throw tooLong()
    const inParent = join(await realpath(dirname(absolute)), basename(absolute))
    if (isOurs((await mountOver(inParent))?.type)) return inParent
    return await realpath(inParent)
  } catch (error) {
    throw unreachable(absolute, error)
  }
}

function isOurs(type: string | undefined): boolean {
  return type === mountType || type === browseType
}

function tooLong(cause?: unknown): KithError {
  return new KithError('usage', 'the path is longer than the system takes; give a shorter one', { cause })
}

function unreachable(dir: string, cause: unknown): KithError {
  if (cause instanceof KithError) return cause
  switch (errnoCode(cause)) {
    case 'ENAMETOOLONG':
      return tooLong(cause)
    case 'ENOTDIR':
      return new KithError('usage', `${dir} is no directory; give a directory`, { cause })
    case 'ELOOP':
      return new KithError('usage', `${dir} is a symbolic link that leads back to itself; give a directory`, {
        cause,
      })
    case 'EACCES':
      return new KithError('denied', `${dir} cannot be reached: a directory above it may not be entered`, {
        cause,
      })
    default:
      return new KithError('notFound', `there is no directory ${dir}; create it first`, { cause })
  }
}

export type MountState = 'none' | 'alive' | 'dead' | 'stuck'

/** The state of the kith mount of this type over the directory. */
export async function kithMountState(dir: string, type = mountType): Promise<MountState> {
  if ((await mountOver(dir))?.type !== type) return 'none'
  // The file system's status, which the kernel never answers from a cache.
  const { stderr, killed, failed } = await run('stat', ['-f', '-c', '%t', '--', dir])
  if (killed) return 'stuck'
  if (!failed) return 'alive'
  return /not connected/.test(stderr) ? 'dead' : 'alive'
}

/** Takes the mount off the tree at once; what is open in it stays open. */
export async function detach(dir: string): Promise<void> {
  const asRoot = process.geteuid?.() === 0
  const { stderr, failed } = asRoot
    ? await run('umount', ['-l', '-c', '-i', '--', dir])
    : await run('fusermount3', ['-u', '-z', '--', dir])
  if (failed && isOurs((await mountOver(dir))?.type))
    throw new KithError('busy', `cannot unmount ${dir}: ${stderr.trim().split('\n')[0] ?? 'unknown error'}`)
}

/**
 * Clears dead kith mounts off the directory; true when there were any.
 * @throws KithError exists when a living one lies there, busy when one does not answer
 */
export async function clearDeadMounts(dir: string): Promise<boolean> {
  for (let cleared = 0; cleared < maxStacked; cleared++) {
    const state = await kithMountState(dir)
    if (state === 'none') return cleared > 0
    if (state === 'alive')
      throw new KithError('exists', `${dir} is mounted by kith already; unmount it there first`)
    if (state === 'stuck')
      throw new KithError(
        'busy',
        `the kith-fuse that serves ${dir} does not answer; end it, then mount again`,
      )
    await detach(dir)
  }
  throw new KithError('busy', `there are dead mounts over ${dir} without end; run: umount -l ${dir}`)
}

interface Ran {
  stderr: string
  failed: boolean
  killed: boolean
}

function run(command: string, args: string[]): Promise<Ran> {
  return new Promise((resolve) => {
    const options = { timeout: probeMs, killSignal: 'SIGKILL', env: { ...process.env, LC_ALL: 'C' } } as const
    execFile(command, args, options, (error, _stdout, stderr) => {
      resolve({
        stderr: stderr || (error?.message ?? ''),
        failed: error !== null,
        killed: error?.killed === true,
      })
    })
  })
}
