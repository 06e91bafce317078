/**
 * Which processes have something open in a directory, told from /proc: through the kith mount over it (holders), or past
 * that mount, because they opened it, or entered it, before it was mounted over (outsiders).
 *
 * Only links and tables of /proc are read: nothing here waits for kith-fuse, or for a process that is frozen. Other users'
 * processes can be looked into by root only.
 */
import { constants } from 'node:fs'
import { open, readdir, readFile, readlink } from 'node:fs/promises'
import { O_PATH } from '../base/posix.js'
import { mounts, mountType } from './mount-table.js'

export interface Holder {
  pid: number
  /** of the program, as the kernel knows it */
  name: string
  /** relative to the directory; `.` is the directory itself */
  path: string
}

const maxHolders = 100
const accessMode = 3

/** What a process has open: by its link in /proc, the mount it was opened through, and whether it may be written by it. */
interface Open {
  path: string
  mountId: string
  mayWrite: boolean
}

/** Those who have something open in the kith mount over the canonical path. */
export async function holdersOf(dir: string): Promise<Holder[]> {
  const over = (await mounts()).findLast(({ mountpoint, type }) => mountpoint === dir && type === mountType)
  if (!over) return []
  return search(dir, [process.pid], ({ mountId }) => mountId === over.id)
}

/**
 * Those who may change files below the canonical path past the kith mount over it: who have files open for writing, or
 * directories to name files in. `server`: the kith-fuse that serves the mount, which works there for others.
 */
export async function outsidersOf(dir: string, server: number): Promise<Holder[]> {
  const kith = new Set((await mounts()).filter(({ type }) => type === mountType).map(({ id }) => id))
  return search(dir, [process.pid, server], ({ mountId, mayWrite }) => mayWrite && !kith.has(mountId))
}

async function search(dir: string, except: number[], wanted: (open: Open) => boolean): Promise<Holder[]> {
  const holders: Holder[] = []
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || except.includes(pid)) continue
    // A process that ends while it is looked at holds nothing.
    const opened = await openIn(dir, `/proc/${pid}`).catch(() => [])
    const paths = new Set(opened.filter(wanted).map(({ path }) => path))
    if (paths.size === 0) continue
    const name = (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?')).trim()
    for (const path of paths) holders.push({ pid, name, path: path.slice(dir.length + 1) || '.' })
    if (holders.length >= maxHolders) return holders.slice(0, maxHolders)
  }
  return holders
}

async function openIn(dir: string, proc: string): Promise<Open[]> {
  const found: Open[] = []
  const isIn = (path: string) => path === dir || path.startsWith(dir === '/' ? dir : `${dir}/`)
  for (const name of ['cwd', 'root']) {
    const path = await readlink(`${proc}/${name}`).catch(() => '')
    if (isIn(path) && path !== '/')
      found.push({ path, mountId: await mountIdOf(`${proc}/${name}`), mayWrite: true })
  }
  for (const fd of await readdir(`${proc}/fd`)) {
    const path = await readlink(`${proc}/fd/${fd}`).catch(() => '')
    if (!isIn(path)) continue
    const { flags, mountId } = parseFdInfo(await readFile(`${proc}/fdinfo/${fd}`, 'latin1'))
    const mayWrite = (flags & accessMode) !== constants.O_RDONLY || (flags & constants.O_DIRECTORY) !== 0
    found.push({ path, mountId, mayWrite })
  }
  return [...found, ...(await mappedIn(isIn, proc))]
}

/** Lines of maps: `from-to perms offset major:minor inode path`; through which mount is told by a link for each range. */
async function mappedIn(isIn: (path: string) => boolean, proc: string): Promise<Open[]> {
  const found = new Map<string, Open>()
  for (const line of (await readFile(`${proc}/maps`, 'utf8')).split('\n')) {
    const [, range = '', perms = '', path = ''] = /^(\S+) (\S+) \S+ \S+ \d+ +(.*)$/.exec(line) ?? []
    if (!isIn(path) || found.has(`${path} ${perms}`)) continue
    const mountId = await mountIdOf(`${proc}/map_files/${range}`).catch(() => '')
    found.set(`${path} ${perms}`, { path, mountId, mayWrite: perms.startsWith('rw') && perms.endsWith('s') })
  }
  return [...found.values()]
}

/** Of what a link in /proc leads to. Opened as a mere place, which asks no file system. */
async function mountIdOf(link: string): Promise<string> {
  const place = await open(link, O_PATH)
  try {
    return parseFdInfo(await readFile(`/proc/self/fdinfo/${place.fd}`, 'latin1')).mountId
  } finally {
    await place.close()
  }
}

function parseFdInfo(text: string): { flags: number; mountId: string } {
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(text)?.[1] ?? ''
  return { flags: parseInt(field('flags'), 8), mountId: field('mnt_id') }
}
