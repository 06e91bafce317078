/**
 * Putting what is no directory into its place: made whole without a name, or under a temporary one in the same directory, and
 * then given its own. Killed at any point, the restore leaves at most temporary files (`.kith-restore-*`), never a partial file
 * under its own name, and what was there before is there until it is replaced.
 */
import { randomBytes } from '../base/random.js'
import { constants } from 'node:fs'
import { assert, KithError } from '../base/errors.js'
import * as posix from '../base/posix.js'
import type { DeviceEntry, Entry, FileEntry, PipeEntry, SymlinkEntry } from '../format/entry.js'
import { checkCancelled, wholeBytes, writeContent, type ReadAhead } from './content.js'
import { namedFile, openFile, sameAttributes, setAttributes, type Ledger } from './metadata.js'
import type { Overwrite, TreeSource } from './types.js'

export type Leaf = FileEntry | SymlinkEntry | PipeEntry | DeviceEntry

export const temporaryPrefix = '.kith-restore-'

const temporaryPattern = /^\.kith-restore-[0-9a-f]{12}-[0-9a-z]+$/

/** Whether it is named like what a restore has not finished. */
export function isTemporary(name: Buffer): boolean {
  return temporaryPattern.test(name.toString('latin1'))
}

const typeBits: Record<Entry['type'], number> = {
  file: constants.S_IFREG,
  directory: constants.S_IFDIR,
  symlink: constants.S_IFLNK,
  fifo: constants.S_IFIFO,
  socket: constants.S_IFSOCK,
  character: constants.S_IFCHR,
  block: constants.S_IFBLK,
}

export function hasType(stat: posix.FileStat, type: Entry['type']): boolean {
  return (stat.mode & constants.S_IFMT) === typeBits[type]
}

/** Where a leaf goes: an open directory, and what is known of it. */
export interface Place {
  dirFd: number
  /** the name to give; the entry's own, unless a single file is restored under another */
  name: Buffer
  /** files made here get an ACL from the directory */
  inherits: boolean
}

export type Outcome = 'written' | 'kept' | 'left out'

/** What a file of `putPlain` has at most. */
const maxPlainBytes = 64 * 1024

/** A small file of one piece that has nothing but its bytes, owner, mode and mtime. */
export function isPlain(entry: Entry): entry is FileEntry {
  if (entry.type !== 'file' || entry.nlink > 1 || entry.xattrs.length > 0) return false
  const { content, size } = entry
  if (size > maxPlainBytes || content.kind === 'list') return false
  return content.kind === 'inline' || (content.extents.length === 1 && content.extents[0]?.kind !== 'hole')
}

export class Placer {
  readonly #run = randomBytes(6).toString('hex')
  #count = 0

  constructor(
    private readonly source: TreeSource,
    private readonly overwrite: Overwrite,
    private readonly ledger: Ledger,
    private readonly ahead: ReadAhead,
    private readonly onBytes: (bytes: number) => void,
    private readonly signal: AbortSignal | undefined,
  ) {}

  async put(entry: Leaf, place: Place): Promise<Outcome> {
    checkCancelled(this.signal)
    if (this.overwrite === 'if-changed' && isThere(entry, place.dirFd, place.name)) {
      const there = namedFile(place.dirFd, place.name)
      if (!sameAttributes(there, there.stat(), entry))
        setAttributes(there, entry, this.ledger, { clean: false, symlink: entry.type === 'symlink' })
      this.onBytes(entry.size)
      return 'kept'
    }
    if (entry.type === 'socket') {
      this.ledger.socketsSkipped++
      return 'left out'
    }
    const temporary = this.#temporaryName()
    try {
      if (entry.type !== 'file' || !(await this.#placeWhole(entry, place, temporary))) {
        if (!(await this.#make(entry, place, temporary))) return 'left out'
        this.#rename(place, temporary)
      }
    } catch (error) {
      this.#discard(place, temporary)
      throw error
    }
    if (entry.busy) this.ledger.busy++
    return 'written'
  }

  /**
   * Plain files (isPlain) into a directory that the restore made, and where files get no ACL from it: with one call of the thread pool.
   * @returns those that could not be put so; `put` does it, or tells why not
   */
  async putPlain(entries: FileEntry[], dirFd: number): Promise<FileEntry[]> {
    checkCancelled(this.signal)
    const bytesOfAll = entries.reduce((sum, { size }) => sum + size, 0)
    this.ahead.take(bytesOfAll)
    try {
      const contents = await Promise.all(
        entries.map((entry) => wholeBytes(this.source, entry).catch(() => undefined)),
      )
      checkCancelled(this.signal)
      const left = entries.filter((_, i) => !contents[i])
      const renameFlags = posix.RENAME_NOREPLACE
      const files = entries.flatMap((entry, i) => {
        const bytes = contents[i]
        const temporary = this.#temporaryName()
        const attributes = { ...entry, renameFlags }
        return bytes ? [{ entry, dirFd, temporary, name: entry.name, bytes, attributes }] : []
      })
      const outcomes = await posix.placeFiles(files)
      for (const [i, { entry, temporary }] of files.entries()) {
        try {
          this.#settle(entry, { dirFd, name: entry.name, inherits: false }, temporary, outcomes[i])
          if (entry.busy) this.ledger.busy++
        } catch {
          this.#discard({ dirFd }, temporary)
          left.push(entry)
        }
      }
      return left
    } finally {
      this.ahead.give(bytesOfAll)
    }
  }

  /**
   * Makes the place another name of a file restored before. Returns false when this is not possible here and the file
   * must be written by itself.
   */
  link(entry: Leaf, place: Place, firstDirFd: number, firstName: Buffer): boolean {
    const first = posix.statAt(firstDirFd, firstName)
    const there = posix.statIfAny(place.dirFd, place.name)
    if (there && there.ino === first.ino && there.dev === first.dev) {
      this.onBytes(entry.size)
      return true
    }
    const temporary = this.#temporaryName()
    try {
      posix.linkAt(firstDirFd, firstName, place.dirFd, temporary)
    } catch (error) {
      if (!['EPERM', 'EACCES', 'EXDEV', 'EMLINK', 'EOPNOTSUPP'].includes(posix.errnoCode(error) ?? ''))
        throw error
      this.ledger.linksSplit++
      return false
    }
    try {
      this.#rename(place, temporary)
    } catch (error) {
      this.#discard(place, temporary)
      throw error
    }
    this.onBytes(entry.size)
    return true
  }

  /**
   * Removes the temporary files that a restore left here when it was killed. One that still runs has its own locked: the
   * lock goes with the process.
   */
  async clearLeftovers(dirFd: number): Promise<void> {
    for await (const batch of posix.readDirectoryBatches(dirFd)) {
      for (const { name, stat } of batch) {
        if (!isTemporary(name) || hasType(stat, 'directory')) continue
        if (name.toString().startsWith(`${temporaryPrefix}${this.#run}-`)) continue
        if (hasType(stat, 'file') && isLocked(dirFd, name)) continue
        this.#discard({ dirFd }, name)
      }
    }
  }

  #temporaryName(): Buffer {
    return Buffer.from(`${temporaryPrefix}${this.#run}-${(this.#count++).toString(36)}`)
  }

  /** False when this process may not make such a file. */
  async #make(entry: Leaf, place: Place, name: Buffer): Promise<boolean> {
    if (entry.type === 'file') {
      await this.#makeFile(entry, place, name)
      return true
    }
    const { dirFd } = place
    if (entry.type === 'symlink') posix.symlinkAt(entry.target, dirFd, name)
    else if (entry.type === 'fifo') posix.mknodAt(dirFd, name, constants.S_IFIFO | 0o600)
    else {
      assert(entry.type === 'character' || entry.type === 'block', 'sockets are left out')
      try {
        posix.mknodAt(dirFd, name, typeBits[entry.type] | 0o600, entry.rdev)
      } catch (error) {
        if (posix.errnoCode(error) !== 'EPERM') throw error
        this.ledger.devicesSkipped++
        return false
      }
    }
    setAttributes(namedFile(dirFd, name), entry, this.ledger, {
      clean: !place.inherits,
      symlink: entry.type === 'symlink',
    })
    this.onBytes(entry.size)
    return true
  }

  /**
   * A file of one piece, made, written and named in one call of the thread pool, so that several are made at once; where
   * anything about it is unusual, the rest is done here. False for files of more pieces.
   */
  async #placeWhole(entry: FileEntry, place: Place, temporary: Buffer): Promise<boolean> {
    const { dirFd, name, inherits } = place
    this.ahead.take(entry.size)
    try {
      const bytes = await wholeBytes(this.source, entry)
      if (!bytes) return false
      checkCancelled(this.signal)
      const usual = !inherits && entry.xattrs.length === 0
      const renameFlags = this.overwrite === 'never' ? posix.RENAME_NOREPLACE : 0
      const attributes = usual ? { ...entry, renameFlags } : undefined
      const outcome = await posix.placeFile({ dirFd, temporary, name, bytes, attributes })
      this.#settle(entry, place, temporary, outcome)
      return true
    } finally {
      this.ahead.give(entry.size)
    }
  }

  /** What posix.placeFiles left to do. @throws what it, or what is done here, failed with */
  #settle(entry: FileEntry, place: Place, temporary: Buffer, outcome: number | Error | undefined): void {
    assert(outcome !== undefined, 'each file has an outcome')
    if (typeof outcome !== 'number') throw outcome
    if (outcome >= 0) {
      try {
        setAttributes(openFile(outcome), entry, this.ledger, { clean: !place.inherits })
      } finally {
        posix.close(outcome)
      }
      this.#rename(place, temporary)
    }
    this.onBytes(entry.size)
  }

  async #makeFile(entry: FileEntry, place: Place, name: Buffer): Promise<void> {
    const { O_CREAT, O_EXCL, O_WRONLY } = constants
    const fd = posix.openAt(place.dirFd, name, O_CREAT | O_EXCL | O_WRONLY, 0o600)
    try {
      tryLock(fd)
      await writeContent(this.source, entry, fd, this.ahead, this.onBytes, this.signal)
      setAttributes(openFile(fd), entry, this.ledger, { clean: !place.inherits })
    } finally {
      posix.close(fd)
    }
  }

  #rename({ dirFd, name }: Place, temporary: Buffer): void {
    try {
      if (this.overwrite !== 'never') {
        posix.renameAt(dirFd, temporary, dirFd, name)
        return
      }
      try {
        posix.renameAt(dirFd, temporary, dirFd, name, posix.RENAME_NOREPLACE)
      } catch (error) {
        // A file system without this flag: a link does not replace either.
        if (posix.errnoCode(error) !== 'EINVAL') throw error
        posix.linkAt(dirFd, temporary, dirFd, name)
        posix.unlinkAt(dirFd, temporary)
      }
    } catch (error) {
      const code = posix.errnoCode(error)
      if (code === 'EISDIR' || code === 'ENOTEMPTY')
        throw new KithError('exists', 'a directory is in its place; move it away')
      if (code === 'EEXIST') throw new KithError('exists', 'something came to be in its place meanwhile')
      throw error
    }
  }

  #discard({ dirFd }: Pick<Place, 'dirFd'>, temporary: Buffer): void {
    try {
      posix.unlinkAt(dirFd, temporary)
    } catch {
      // Not made, or gone with its directory.
    }
  }
}

/** Whether it is there already, as far as type, size and mtime tell: what `if-changed` leaves alone. */
export function isThere(entry: Leaf, dirFd: number, name: Buffer): boolean {
  const stat = posix.statIfAny(dirFd, name)
  if (!stat || !hasType(stat, entry.type)) return false
  switch (entry.type) {
    case 'file':
      return stat.size === entry.size && stat.mtimeNs === entry.mtimeNs
    case 'symlink':
      return posix.readlinkAt(dirFd, name).equals(entry.target)
    case 'character':
    case 'block':
      return stat.rdev === entry.rdev
    default:
      return true
  }
}

/** False when another process has the file locked. A file system without locks has no other process in our files. */
function tryLock(fd: number): boolean {
  try {
    return posix.flockExclusive(fd)
  } catch {
    return true
  }
}

function isLocked(dirFd: number, name: Buffer): boolean {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
  let fd
  try {
    fd = posix.openAt(dirFd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  } catch {
    return true
  }
  try {
    return !tryLock(fd)
  } finally {
    posix.close(fd)
  }
}
