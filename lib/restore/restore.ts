/**
 * Writes a file or a directory of a snapshot out, with everything that belongs to it.
 *
 * 1. The target is opened, or made; unless overwriting is allowed, any conflict is refused before a byte is written.
 * 2. Directories to list and files to write lie on one stack, from which several workers take: nearly depth first, so
 *    that what waits stays small, with listing and fetching of many at once.
 * 3. A directory is made with mode 0700, filled, and given its own attributes when everything below it is done.
 * 4. Each file is made whole before it gets its name (place.ts), many small ones of a new directory at once.
 *    What a restore that was killed left of those goes when its directory is visited again.
 * 5. What fails is noted and the rest goes on; only what would fail everywhere (disk full, no partner left, stopped)
 *    ends the restore. At the end everything is written to disk, and failures are thrown as RestoreIncomplete.
 *
 * Nothing below the target is reached by a path: only by descriptors and single names, without following symlinks.
 * Names that are one file in the snapshot (equal inode, link count above 1) become one file again.
 */
import { asKithError, KithError } from '../base/errors.js'
import * as posix from '../base/posix.js'
import { totalsOf, type DirectoryEntry, type Entry, type FileEntry } from '../format/entry.js'
import { checkCancelled, ReadAhead } from './content.js'
import { emptyLedger, hasDefaultAcl, notesOf, openFile, setAttributes } from './metadata.js'
import type { OpenDirectories } from './open-directories.js'
import { pathOf, type DirectoryHandle } from './open-directories.js'
import { pathText } from '../base/path-text.js'
import { hasType, isPlain, Placer, type Leaf } from './place.js'
import { Extras, refuseDelete, refusePatterns, type Removed } from './extras.js'
import { FilteredSource } from './filter.js'
import { openTarget } from './target.js'
import { WriteOut } from './write-out.js'
import {
  RestoreIncomplete,
  type Overwrite,
  type RestoreFailure,
  type RestoreOptions,
  type RestoreResult,
  type TreeSource,
} from './types.js'

export * from './types.js'

const pageEntries = 256
const defaultParallel = 32
const maxFailuresKept = 100
/** Small files that one piece of work puts into a directory. */
const plainAtOnce = 32
const reportEveryFiles = 64
const reportEveryBytes = 1024 * 1024

/** Causes that would fail every other file too. */
const fatalCodes = new Set(['cancelled', 'noSpace', 'noPartners', 'timeout'])
const fatalErrnos = new Set(['EROFS', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM'])

interface Directory {
  handle: DirectoryHandle
  /** undefined for the directory around a single file, which is not ours */
  entry: DirectoryEntry | undefined
  parent: Directory | undefined
  /** it held something before: under `never` its own attributes are left alone */
  merged: boolean
  inherits: boolean
  /** pieces of work below, and the listing itself */
  pending: number
}

type Work =
  | { kind: 'list'; directory: Directory; entry: DirectoryEntry; after: Buffer | undefined }
  | { kind: 'plain'; directory: Directory; entries: FileEntry[] }
  | { kind: 'leaf'; directory: Directory; entry: Leaf; name: Buffer }

/** A file with several names: where its first one was put, or undefined when that failed. */
interface FirstName {
  handle: DirectoryHandle
  name: Buffer
}

class Restoration {
  readonly #ledger = emptyLedger()
  readonly #stack: Work[] = []
  readonly #links = new Map<string, Promise<FirstName | undefined>>()
  readonly #failures: RestoreFailure[] = []
  readonly #placer: Placer
  readonly #overwrite: Overwrite
  readonly #writeOut: WriteOut
  #failed = 0
  #running = 0
  #wake: (() => void)[] = []
  #fatal: KithError | undefined
  #files = 0
  #bytes = 0
  #directories = 0
  #skipped = 0
  #reportedFiles = 0
  #reportedBytes = 0

  constructor(
    private readonly source: TreeSource,
    private readonly top: Entry,
    private readonly directories: OpenDirectories,
    private readonly path: string,
    private readonly options: RestoreOptions,
  ) {
    this.#overwrite = options.overwrite ?? 'never'
    this.#writeOut = new WriteOut(() => directories.use(directories.root, (fd) => posix.syncFileSystem(fd)))
    this.#placer = new Placer(
      source,
      this.#overwrite,
      this.#ledger,
      new ReadAhead(),
      (bytes) => {
        this.#bytes += bytes
        this.#writeOut.wrote(bytes)
        this.#report(false)
      },
      options.signal,
    )
  }

  /** @param merged the target directory held something before */
  startDirectory(entry: DirectoryEntry, merged: boolean): void {
    const handle = this.directories.root
    const inherits = this.directories.useSync(handle, hasDefaultAcl)
    const directory: Directory = { handle, entry, parent: undefined, merged, inherits, pending: 1 }
    this.#directories++
    this.#stack.push({ kind: 'list', directory, entry, after: undefined })
  }

  startLeaf(entry: Leaf, name: Buffer): void {
    const handle = this.directories.root
    const inherits = this.directories.useSync(handle, hasDefaultAcl)
    const directory: Directory = {
      handle,
      entry: undefined,
      parent: undefined,
      merged: true,
      inherits,
      pending: 1,
    }
    this.#stack.push({ kind: 'leaf', directory, entry, name })
  }

  /** @param extras what is to be removed at the end */
  async run(extras?: Extras): Promise<RestoreResult> {
    const width = Math.max(1, this.options.parallel ?? defaultParallel)
    await Promise.all(Array.from({ length: width }, () => this.#worker()))
    // The directory stays open as long.
    await this.#writeOut.idle()
    if (this.#fatal) throw this.#fatal
    this.#report(true)
    const { removed, stayed } = await this.#remove(extras)
    await this.#writeOut.end()
    const result: RestoreResult = {
      path: this.path,
      files: this.#files,
      bytes: this.#bytes,
      directories: this.#directories,
      skipped: this.#skipped,
      removed,
      stayed,
      notes: notesOf(this.#ledger),
    }
    if (this.#failed > 0) throw new RestoreIncomplete(result, this.#failures, this.#failed)
    return result
  }

  /** Nothing goes where not everything came. */
  async #remove(extras: Extras | undefined): Promise<Removed> {
    if (!extras || this.#failed > 0) return { removed: 0, stayed: 0 }
    return extras.remove((handle, name, error) => {
      this.#note({ handle }, name, error)
      if (this.#fatal) throw this.#fatal
    }, this.options.signal)
  }

  // ---- the workers

  async #worker(): Promise<void> {
    for (;;) {
      const work = this.#fatal ? undefined : this.#stack.pop()
      if (work) {
        this.#running++
        await this.#do(work)
        this.#running--
        this.#wakeAll()
      } else if (this.#running === 0 || this.#fatal) {
        return
      } else {
        await new Promise<void>((resolve) => this.#wake.push(resolve))
      }
    }
  }

  #wakeAll(): void {
    const waiting = this.#wake
    this.#wake = []
    for (const resolve of waiting) resolve()
  }

  async #do(work: Work): Promise<void> {
    const { directory } = work
    try {
      checkCancelled(this.options.signal)
      if (work.kind === 'list') await this.#list(directory, work.entry, work.after)
      else if (work.kind === 'plain') await this.#plain(directory, work.entries)
      else await this.#leaf(directory, work.entry, work.name)
    } catch (error) {
      this.#note(directory, work.kind === 'leaf' ? work.name : undefined, error)
    }
    this.#finish(directory)
  }

  #note(directory: Pick<Directory, 'handle'>, name: Buffer | undefined, error: unknown): void {
    const cause = asKithError(error)
    if (fatalCodes.has(cause.code) || fatalErrnos.has(posix.errnoCode(error) ?? '')) {
      this.#fatal ??= cause
      return
    }
    this.#failed++
    if (this.#failures.length >= maxFailuresKept) return
    const names = name === undefined ? pathOf(directory.handle) : [...pathOf(directory.handle), name]
    this.#failures.push({ path: pathText(names) || '.', code: cause.code, message: cause.message })
  }

  // ---- directories

  async #list(directory: Directory, listed: DirectoryEntry, after: Buffer | undefined): Promise<void> {
    if (directory.merged && after === undefined) {
      await this.directories.use(directory.handle, (fd) => this.#placer.clearLeftovers(fd))
    }
    const page = await this.source.list(listed, after, pageEntries)
    if (page.length === pageEntries) {
      directory.pending++
      this.#stack.push({ kind: 'list', directory, entry: listed, after: page.at(-1)?.name })
    }
    const found: Work[] = []
    const plain: FileEntry[] = []
    const takesPlain = !directory.merged && !directory.inherits
    this.directories.useSync(directory.handle, (fd) => {
      for (const entry of page) {
        if (takesPlain && isPlain(entry)) {
          plain.push(entry)
          continue
        }
        if (entry.type !== 'directory') {
          found.push({ kind: 'leaf', directory, entry, name: entry.name })
          continue
        }
        const child = this.#tryMakeDirectory(directory, fd, entry)
        if (child) found.push({ kind: 'list', directory: child, entry, after: undefined })
      }
    })
    for (let at = 0; at < plain.length; at += plainAtOnce)
      found.push({ kind: 'plain', directory, entries: plain.slice(at, at + plainAtOnce) })
    // A new directory waits for its listing (pending is 1) and its parent waits for it.
    directory.pending += found.length
    for (const work of found.reverse()) this.#stack.push(work)
    this.#wakeAll()
  }

  #tryMakeDirectory(parent: Directory, parentFd: number, entry: DirectoryEntry): Directory | undefined {
    try {
      const made = makeDirectory(parentFd, entry.name, this.#overwrite)
      const handle = this.directories.child(parent.handle, parentFd, entry.name)
      const inherits = this.directories.useSync(handle, hasDefaultAcl)
      this.#directories++
      return { handle, entry, parent, merged: !made, inherits, pending: 1 }
    } catch (error) {
      this.#note(parent, entry.name, error)
      return undefined
    }
  }

  /** One piece of work in the directory is done; the last one completes it, and that is a piece of its parent's. */
  #finish(last: Directory): void {
    for (let at: Directory | undefined = last; at; at = at.parent) {
      at.pending--
      if (at.pending > 0 || this.#fatal) return
      const { handle, entry, merged } = at
      if (entry && (!merged || this.#overwrite !== 'never')) {
        try {
          this.directories.useSync(handle, (fd) =>
            setAttributes(openFile(fd), entry, this.#ledger, { clean: false }),
          )
        } catch (error) {
          this.#note(at, undefined, error)
        }
      }
      this.directories.done(handle)
    }
  }

  // ---- everything else

  async #plain(directory: Directory, entries: FileEntry[]): Promise<void> {
    const left = await this.directories.use(directory.handle, (fd) => this.#placer.putPlain(entries, fd))
    this.#files += entries.length - left.length
    for (const entry of left) {
      directory.pending++
      this.#stack.push({ kind: 'leaf', directory, entry, name: entry.name })
    }
    this.#report(false)
  }

  async #leaf(directory: Directory, entry: Leaf, name: Buffer): Promise<void> {
    if (entry.nlink > 1) await this.#linked(directory, entry, name)
    else await this.#put(directory, entry, name)
  }

  async #put(directory: Directory, entry: Leaf, name: Buffer): Promise<boolean> {
    const outcome = await this.directories.use(directory.handle, (dirFd) =>
      this.#placer.put(entry, { dirFd, name, inherits: directory.inherits }),
    )
    if (outcome === 'kept') this.#skipped++
    if (outcome !== 'left out') this.#files++
    this.#report(false)
    return outcome !== 'left out'
  }

  async #linked(directory: Directory, entry: Leaf, name: Buffer): Promise<void> {
    // A file that changed between the reading of two of its names is two files in the snapshot.
    const key = `${entry.ino} ${entry.type} ${entry.size} ${entry.mtimeNs}`
    const known = this.#links.get(key)
    if (known) {
      const first = await known
      if (first && (await this.#link(directory, entry, name, first))) this.#files++
      else await this.#put(directory, entry, name)
      this.#report(false)
      return
    }
    const put = this.#put(directory, entry, name)
    this.#links.set(
      key,
      put.then(
        (done) => (done ? { handle: directory.handle, name } : undefined),
        () => undefined,
      ),
    )
    await put
  }

  #link(directory: Directory, entry: Leaf, name: Buffer, first: FirstName): Promise<boolean> {
    return this.directories.use(directory.handle, (dirFd) =>
      this.directories.use(first.handle, (firstFd) =>
        this.#placer.link(entry, { dirFd, name, inherits: directory.inherits }, firstFd, first.name),
      ),
    )
  }

  #report(last: boolean): void {
    const { progress } = this.options
    if (!progress) return
    const files = this.#files - this.#reportedFiles
    const bytes = this.#bytes - this.#reportedBytes
    if (!last && files < reportEveryFiles && bytes < reportEveryBytes) return
    this.#reportedFiles = this.#files
    this.#reportedBytes = this.#bytes
    const totals = totalsOf(this.top)
    progress({
      files: this.#files,
      bytes: this.#bytes,
      totalFiles: totals.files,
      totalBytes: totals.bytes,
    })
  }
}

/** True when it was made, false when it was there. Only we may enter it until it gets its own mode. */
function makeDirectory(parentFd: number, name: Buffer, overwrite: Overwrite): boolean {
  try {
    posix.mkdirAt(parentFd, name, 0o700)
    return true
  } catch (error) {
    if (posix.errnoCode(error) !== 'EEXIST') throw error
  }
  if (hasType(posix.statAt(parentFd, name), 'directory')) return false
  if (overwrite === 'never') throw new KithError('exists', 'something came to be in its place meanwhile')
  posix.unlinkAt(parentFd, name)
  posix.mkdirAt(parentFd, name, 0o700)
  return true
}

/**
 * Restores `entry` to `target`: a directory's content into the directory `target` (made, with its parents, if need be),
 * any other entry as the file `target`, or into `target` when that is a directory.
 *
 * @throws KithError `exists` before anything is written, when `overwrite` is `never` and something is in the way;
 * RestoreIncomplete when some files could not be restored and all others were; KithError with the cause that ended it
 */
export async function restoreTree(
  source: TreeSource,
  entry: Entry,
  target: string,
  options: RestoreOptions = {},
): Promise<RestoreResult> {
  checkCancelled(options.signal)
  const { filter, ...rest } = options
  if (filter && filter.include.length + filter.exclude.length > 0) {
    refusePatterns(options, entry)
    const filtered = new FilteredSource(source, entry, filter)
    return restoreTree(filtered, filtered.root, target, rest)
  }
  const { delete: leftOut, overwrite = 'never', signal } = options
  if (leftOut) await refuseDelete(source, entry, overwrite)
  const opened = await openTarget(source, entry, target, options)
  try {
    const { directories } = opened
    const extras =
      leftOut && entry.type === 'directory'
        ? await Extras.gather(source, entry, directories, leftOut, signal)
        : undefined
    const restoration = new Restoration(source, entry, opened.directories, opened.path, options)
    if (entry.type === 'directory') restoration.startDirectory(entry, opened.held)
    else restoration.startLeaf(entry, opened.name)
    return await restoration.run(extras)
  } finally {
    opened.directories.closeAll()
  }
}
