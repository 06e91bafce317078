/**
 * Owner, extended attributes, mode and mtime of a restored file, in the order that keeps each: a change of owner clears
 * setuid bits and capabilities; attributes need write permission that the mode may take away; an ACL changes the mode's
 * group bits; everything touches the mtime's directory, but not the mtime itself.
 *
 * What this process may not set is counted in the ledger, never silently lost. Setuid and setgid bits are not given to
 * a file whose owner or group could not be set: they would lend somebody else's rights.
 */
import { constants } from 'node:fs'
import * as posix from '../base/posix.js'
import type { Attributes, Xattr } from '../format/entry.js'

export interface Ledger {
  ownersLost: number
  modesReduced: number
  xattrsLost: number
  socketsSkipped: number
  devicesSkipped: number
  linksSplit: number
  busy: number
}

export function emptyLedger(): Ledger {
  return {
    ownersLost: 0,
    modesReduced: 0,
    xattrsLost: 0,
    socketsSkipped: 0,
    devicesSkipped: 0,
    linksSplit: 0,
    busy: 0,
  }
}

/** Where attributes are set: an open file, or a name in an open directory. */
export interface AttributeTarget {
  chown(uid: number, gid: number): void
  chmod(mode: number): void
  utimes(mtimeNs: bigint): void
  xattrs(): Xattr[]
  setXattr(key: Buffer, value: Buffer): void
  removeXattr(key: Buffer): void
  stat(): posix.FileStat
}

export function openFile(fd: number): AttributeTarget {
  return {
    chown: (uid, gid) => posix.chownFd(fd, uid, gid),
    chmod: (mode) => posix.chmodFd(fd, mode),
    utimes: (mtimeNs) => posix.utimesFd(fd, undefined, mtimeNs),
    xattrs: () => posix.xattrsFd(fd),
    setXattr: (key, value) => posix.setXattrFd(fd, key, value),
    removeXattr: (key) => posix.removeXattrFd(fd, key),
    stat: () => posix.statFd(fd),
  }
}

export function namedFile(dirFd: number, name: Buffer): AttributeTarget {
  return {
    chown: (uid, gid) => posix.chownAt(dirFd, name, uid, gid),
    chmod: (mode) => posix.chmodAt(dirFd, name, mode),
    utimes: (mtimeNs) => posix.utimesAt(dirFd, name, undefined, mtimeNs),
    xattrs: () => posix.xattrsAt(dirFd, name),
    setXattr: (key, value) => posix.setXattrAt(dirFd, name, key, value),
    removeXattr: (key) => posix.removeXattrAt(dirFd, name, key),
    stat: () => posix.statAt(dirFd, name),
  }
}

const notPermitted = new Set([
  'EPERM',
  'EACCES',
  'EINVAL',
  'EOPNOTSUPP',
  'ENOTSUP',
  'ENOSPC',
  'E2BIG',
  'ERANGE',
])

/** Runs the call; false when this process, or this file system, may not do it. */
function permitted(call: () => void): boolean {
  try {
    call()
    return true
  } catch (error) {
    if (notPermitted.has(posix.errnoCode(error) ?? '')) return false
    throw error
  }
}

const keep = -1

/** The mode bits that must not be given because the owner or the group is not the one they were meant for. */
function setOwner(target: AttributeTarget, wanted: Attributes, ledger: Ledger): number {
  if (permitted(() => target.chown(wanted.uid, wanted.gid))) return 0
  ledger.ownersLost++
  let withheld = wanted.uid === process.geteuid?.() ? 0 : 0o4000
  if (!permitted(() => target.chown(keep, wanted.gid))) withheld |= 0o2000
  return withheld
}

/** Attributes that a file may have got from its directory or had before, and that are ours to take away. */
function isOurs(key: Buffer): boolean {
  const name = key.toString('latin1')
  return name.startsWith('user.') || name.startsWith('trusted.') || name.startsWith('system.posix_acl_')
}

function setXattrs(target: AttributeTarget, wanted: Xattr[], clean: boolean, ledger: Ledger): void {
  const there = clean ? [] : target.xattrs()
  for (const [key] of there) {
    if (isOurs(key) && !wanted.some(([name]) => name.equals(key))) permitted(() => target.removeXattr(key))
  }
  for (const [key, value] of wanted) {
    const same = there.some(([name, old]) => name.equals(key) && old.equals(value))
    if (!same && !permitted(() => target.setXattr(key, value))) ledger.xattrsLost++
  }
}

/**
 * @param clean the file was made by us in a directory without a default ACL, so that it has no attributes yet
 * @param symlink a symlink has no mode of its own
 */
export function setAttributes(
  target: AttributeTarget,
  wanted: Attributes,
  ledger: Ledger,
  { clean, symlink = false }: { clean: boolean; symlink?: boolean },
): void {
  const withheld = setOwner(target, wanted, ledger)
  setXattrs(target, wanted.xattrs, clean, ledger)
  if (!symlink) {
    const mode = wanted.mode & ~withheld
    if (mode !== wanted.mode) ledger.modesReduced++
    target.chmod(mode)
  }
  target.utimes(wanted.mtimeNs)
}

/** Whether the file has the owner, mode and attributes already. */
export function sameAttributes(target: AttributeTarget, stat: posix.FileStat, wanted: Attributes): boolean {
  if (stat.uid !== wanted.uid || stat.gid !== wanted.gid) return false
  const isLink = (stat.mode & constants.S_IFMT) === constants.S_IFLNK
  if (!isLink && (stat.mode & 0o7777) !== wanted.mode) return false
  const there = target.xattrs().filter(([key]) => isOurs(key))
  const ours = wanted.xattrs.filter(([key]) => isOurs(key))
  return (
    there.length === ours.length &&
    ours.every(([key, value]) => there.some(([name, old]) => name.equals(key) && old.equals(value)))
  )
}

const defaultAcl = Buffer.from('system.posix_acl_default')

/** Whether files made in this directory get an ACL from it. */
export function hasDefaultAcl(dirFd: number): boolean {
  return posix.xattrsFd(dirFd).some(([key]) => key.equals(defaultAcl))
}

function counted(count: number, one: string, many: string): string[] {
  return count === 0 ? [] : [count === 1 ? one : many.replace('#', String(count))]
}

/** The ledger in words. */
export function notesOf(ledger: Ledger): string[] {
  return [
    ...counted(
      ledger.ownersLost,
      'the owner of one file could not be set: restore as root to keep owners',
      'the owners of # files could not be set: restore as root to keep owners',
    ),
    ...counted(
      ledger.modesReduced,
      'one file lost its setuid or setgid bit with its owner',
      '# files lost their setuid or setgid bits with their owners',
    ),
    ...counted(
      ledger.xattrsLost,
      'one extended attribute could not be set here',
      '# extended attributes could not be set here',
    ),
    ...counted(
      ledger.socketsSkipped,
      'one socket was left out: the program that owns it makes it again',
      '# sockets were left out: the programs that own them make them again',
    ),
    ...counted(
      ledger.devicesSkipped,
      'one device file was left out: only root may make it',
      '# device files were left out: only root may make them',
    ),
    ...counted(
      ledger.linksSplit,
      'one hard link became a file of its own',
      '# hard links became files of their own',
    ),
    ...counted(
      ledger.busy,
      'one file was being written when its snapshot was taken, and may hold parts of two states',
      '# files were being written when their snapshot was taken, and may hold parts of two states',
    ),
  ]
}
