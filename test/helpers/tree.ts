/**
 * Describes a tree of files by everything that a backup must bring back, and compares two descriptions. Works below
 * descriptors: names of any bytes, any depth.
 */
import { createHash } from 'node:crypto'
import { constants, readSync } from 'node:fs'
import * as posix from '../../lib/base/posix.js'
import { OpenDirectories, pathOf, type DirectoryHandle } from '../../lib/restore/open-directories.js'
import { pathText } from '../../lib/base/path-text.js'

export interface Described {
  /** readable and unambiguous: `.` for the root */
  path: string
  type: string
  /** 07777 bits; 0 for symlinks, which have none */
  mode: number
  uid: number
  gid: number
  mtimeNs: bigint
  /** 0 for directories: theirs are the file system's affair */
  size: number
  /** sha256 of a file's content */
  content: string
  /** of files with several names in the tree: the first of them */
  link: string
  /** name=hex of the value, sorted */
  xattrs: string[]
  target: string
  rdev: bigint
  /** bytes on disk */
  allocated: number
}

export interface DescribeOptions {
  /** names in the root to leave out */
  ignore?: string[]
}

const types: Record<number, string> = {
  [constants.S_IFREG]: 'file',
  [constants.S_IFDIR]: 'directory',
  [constants.S_IFLNK]: 'symlink',
  [constants.S_IFIFO]: 'fifo',
  [constants.S_IFSOCK]: 'socket',
  [constants.S_IFCHR]: 'character',
  [constants.S_IFBLK]: 'block',
}

const piece = Buffer.alloc(1024 * 1024)

function contentHash(dirFd: number, name: Buffer): string {
  const fd = posix.openAt(dirFd, name, constants.O_RDONLY)
  try {
    const hash = createHash('sha256')
    for (;;) {
      const got = readSync(fd, piece, 0, piece.length, null)
      if (got === 0) return hash.digest('hex')
      hash.update(piece.subarray(0, got))
    }
  } finally {
    posix.close(fd)
  }
}

function xattrTexts(xattrs: posix.Xattr[]): string[] {
  return xattrs.map(([key, value]) => `${key.toString('latin1')}=${value.toString('hex')}`).sort()
}

function attributes(path: string, stat: posix.FileStat, xattrs: posix.Xattr[]): Described {
  const type = types[stat.mode & constants.S_IFMT] ?? 'unknown'
  return {
    path,
    type,
    mode: type === 'symlink' ? 0 : stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
    mtimeNs: stat.mtimeNs,
    size: type === 'directory' ? 0 : stat.size,
    content: '',
    link: '',
    xattrs: xattrTexts(xattrs),
    target: '',
    rdev: type === 'character' || type === 'block' ? stat.rdev : 0n,
    allocated: stat.blocks * 512,
  }
}

/** Every entry of the tree, the root first, in the order of the paths' text. */
export async function describeTree(
  path: string,
  { ignore = [] }: DescribeOptions = {},
): Promise<Described[]> {
  const directories = new OpenDirectories(posix.openRoot(path))
  const all: Described[] = []
  const names = new Map<string, Described[]>()
  try {
    directories.useSync(directories.root, (fd) => {
      all.push(attributes('.', posix.statFd(fd), posix.xattrsFd(fd)))
    })
    const stack: DirectoryHandle[] = [directories.root]
    for (let handle = stack.pop(); handle; handle = stack.pop()) {
      const here = handle
      const above = pathOf(here)
      await directories.use(here, async (fd) => {
        for await (const batch of posix.readDirectoryBatches(fd))
          for (const { name, stat } of batch) {
            if (here === directories.root && ignore.includes(name.toString())) continue
            const found = attributes(pathText([...above, name]), stat, posix.xattrsAt(fd, name))
            if (found.type === 'file') found.content = contentHash(fd, name)
            if (found.type === 'symlink') found.target = posix.readlinkAt(fd, name).toString('latin1')
            if (found.type === 'directory') stack.push(directories.child(here, fd, name))
            else if (stat.nlink > 1) {
              const key = `${stat.dev} ${stat.ino}`
              names.set(key, [...(names.get(key) ?? []), found])
            }
            all.push(found)
          }
      })
      directories.done(handle)
    }
  } finally {
    directories.closeAll()
  }
  for (const group of names.values()) {
    const first = group.map((entry) => entry.path).sort()[0] ?? ''
    if (group.length > 1) for (const entry of group) entry.link = first
  }
  return all.sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** Mostly holes: less than half is on disk. Small files tell nothing. */
function isSparse(entry: Described): boolean {
  return entry.type === 'file' && entry.size >= 1024 * 1024 && entry.allocated < entry.size / 2
}

const compared = [
  'type',
  'mode',
  'uid',
  'gid',
  'mtimeNs',
  'size',
  'content',
  'link',
  'target',
  'rdev',
] as const

function differences(a: Described, b: Described): string[] {
  const lines: string[] = []
  for (const key of compared) {
    if (a[key] === b[key]) continue
    const show = (value: string | number | bigint): string =>
      key === 'mode' && typeof value === 'number' ? `0${value.toString(8)}` : String(value)
    lines.push(`${a.path}: ${key} ${show(a[key])} became ${show(b[key])}`)
  }
  if (a.xattrs.join(' ') !== b.xattrs.join(' '))
    lines.push(`${a.path}: xattrs [${a.xattrs.join(' ')}] became [${b.xattrs.join(' ')}]`)
  if (isSparse(a) !== isSparse(b))
    lines.push(`${a.path}: ${a.allocated} of ${a.size} bytes on disk became ${b.allocated}`)
  return lines
}

/** What differs, one line each, at most fifty; empty when the trees are the same. */
export function compareTrees(before: Described[], after: Described[]): string[] {
  const lines: string[] = []
  const rest = new Map(after.map((entry) => [entry.path, entry]))
  for (const entry of before) {
    const other = rest.get(entry.path)
    rest.delete(entry.path)
    if (other) lines.push(...differences(entry, other))
    else lines.push(`${entry.path}: ${entry.type} is missing`)
  }
  for (const path of rest.keys()) lines.push(`${path}: was not there before`)
  return lines.length <= 50 ? lines : [...lines.slice(0, 50), `and ${lines.length - 50} more`]
}
