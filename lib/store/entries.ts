/** Entries from what the file system says of a name. */
import { constants, statfsSync } from 'node:fs'
import type { FileStat, Xattr } from '../base/posix.js'
import type { Attributes, Entry, EntryType } from '../format/node.js'

/** What an entry may be, or undefined for a type that Linux does not have. */
export function typeOf(stat: FileStat): EntryType | undefined {
  return types[stat.mode & constants.S_IFMT]
}

const types: Record<number, EntryType | undefined> = {
  [constants.S_IFREG]: 'file',
  [constants.S_IFDIR]: 'directory',
  [constants.S_IFLNK]: 'symlink',
  [constants.S_IFIFO]: 'fifo',
  [constants.S_IFSOCK]: 'socket',
  [constants.S_IFCHR]: 'character',
  [constants.S_IFBLK]: 'block',
}

const tmpfsMagic = 0x01021994

/** Whether writes through a mapping change the times of files there: not where pages are never written out. */
export function timesTell(rootFd: number): boolean {
  return statfsSync(`/proc/self/fd/${rootFd}`).type !== tmpfsMagic
}

export function attributesOf(name: Buffer, stat: FileStat, xattrs: readonly Xattr[]): Attributes {
  return {
    name,
    mode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
    ino: stat.ino,
    nlink: stat.nlink,
    size: stat.size,
    xattrs: [...xattrs].sort(([a], [b]) => Buffer.compare(a, b)),
    busy: false,
  }
}

/** Whether an entry's attributes are those of the status: equal ctimes mean equal xattrs, too. */
export function sameAttributes(entry: Entry, stat: FileStat): boolean {
  return (
    entry.ino === stat.ino &&
    entry.ctimeNs === stat.ctimeNs &&
    entry.mtimeNs === stat.mtimeNs &&
    entry.size === stat.size &&
    entry.mode === (stat.mode & 0o7777) &&
    entry.uid === stat.uid &&
    entry.gid === stat.gid &&
    entry.nlink === stat.nlink &&
    entry.type === typeOf(stat)
  )
}

type Times = Pick<FileStat, 'size' | 'mtimeNs' | 'ctimeNs'>

/** Whether the file has not changed between the two, as far as its status tells. */
export function atRest(before: Times, after: Times): boolean {
  return before.size === after.size && before.mtimeNs === after.mtimeNs && before.ctimeNs === after.ctimeNs
}
