/**
 * One job of a worker thread: reads entries, cuts files into chunks, asks which are known, seals the others. It runs beside
 * other jobs in its thread, so that the wait for an answer is not idle. A few small files are read in the main thread (seal-pool.ts).
 *
 *   1. small    plain files of up to 128 KiB are read one after another into the job's memory by one call (readSmall);
 *               those of up to 64 KiB are not cut: they share chunks (portion.ts)
 *   2. item     what that leaves: other kinds of entries, larger files piece by piece, spans of files, last tries
 *   3. flush    when the memory is full, and at the end (portion.ts)
 *
 * A file is as of one instant: its status before and after the reading must agree in size, mtime and ctime. When they
 * do not, the item comes back as changed and is tried again; at the last try it is taken as read, and marked busy.
 */
import { constants, readSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import { close, errnoCode, openAt, readlinkAt, readSmall, smallStops } from '../base/posix.js'
import { seekData, seekHole, statAt, statFd, xattrsAt, xattrsFd, type FileStat } from '../base/posix.js'
import { Reader, Writer } from '../format/bytes.js'
import { defaultSizes } from '../format/chunker.js'
import {
  maxDirectExtents,
  maxInlineBytes,
  readExtents,
  writeEntry,
  writeExtent,
  writeExtentsHead,
  writeInlineContent,
  type Attributes,
  type Entry,
  type FileContent,
} from '../format/entry.js'
import { atRest, attributesOf, typeOf } from './entries.js'
import { type Exchange, isPacked, type Portion } from './portion.js'
import {
  asBuffer,
  decodeItem,
  type FromWorker,
  itemsAt,
  outcomeNumbers,
  ownBytes,
  type SealItem,
  type SpanRequest,
} from './seal-messages.js'

/** Files up to here are read by readSmall: wherever they are cut, they have at most maxDirectExtents chunks. */
const smallBytes = 128 * 1024

/** What readSmall finds in one call, behind its 16 bytes of head: some 330 items at most (portion.ts has room for their chunks). */
const found = Buffer.alloc(32 * 1024)
const foundAt = 16

/** A piece of a file, cut anew. */
interface Cut {
  from: number
  to: number
  count: number
  /** Encoded, filled in when their chunks are sealed. */
  extents: Writer
}

/** A file that was read; what it holds is known when all chunks are sealed. */
interface Draft {
  index: number
  attributes: Attributes
  cuts: Cut[]
}

/** Where the chunks of the file as it was ended; those from `until` on are behind the change. */
interface OldEnds {
  until: number
  ends: ReadonlySet<number>
}

/** The file changed under the reader's hands. */
class Changed extends Error {}
class JobOff extends Error {}

export class SealJob implements Exchange {
  private readonly results = new Writer(ownBytes)
  private readonly drafts: Draft[] = []
  private readonly answers: ((rows: Uint8Array | undefined) => void)[] = []
  private readonly convergence: Buffer

  constructor(
    private readonly job: number,
    private readonly request: Buffer,
    private readonly portion: Portion,
    private readonly post: (message: FromWorker, transfer?: ArrayBuffer[]) => void,
    /** What readSmall leaves comes back as changed. */
    private readonly smallOnly: boolean,
  ) {
    this.convergence = request.subarray(0, 32)
  }

  async run(): Promise<void> {
    const { job } = this
    try {
      for (let at = itemsAt; at < this.request.length;) at = await this.some(at)
      await this.flush()
      for (const draft of this.drafts) this.settle(draft)
      const results = this.results.finish()
      this.post({ kind: 'done', job, results }, [results.buffer as ArrayBuffer])
    } catch (error) {
      this.post({ kind: 'failed', job, why: error instanceof Error ? (error.stack ?? error.message) : 'off' })
    }
  }

  answer(rows: Uint8Array | undefined): void {
    this.answers.shift()?.(rows)
  }

  async ask(ids: Buffer): Promise<Buffer> {
    this.post({ kind: 'ask', job: this.job, ids }, [ids.buffer as ArrayBuffer])
    const rows = await new Promise<Uint8Array | undefined>((resolve) => this.answers.push(resolve))
    if (!rows) throw new JobOff('the job is off')
    return asBuffer(rows)
  }

  send(count: number, blocks: Buffer, packs: Buffer): void {
    this.post({ kind: 'blocks', job: this.job, count, blocks, packs }, [
      blocks.buffer as ArrayBuffer,
      packs.buffer as ArrayBuffer,
    ])
  }

  private flush(keep?: number): Promise<void> {
    return this.portion.flush(this.convergence, this, keep)
  }

  // ---- 1. small files

  /** Items from `at` of the request on; where to go on. */
  private async some(at: number): Promise<number> {
    const { portion, request } = this
    readSmall(request, at, portion.memory, portion.used, smallBytes, found)
    const next = found.readUInt32LE(0)
    portion.used = found.readUInt32LE(4)
    const stop = found.readUInt32LE(8)
    this.takeFound(found.readUInt32LE(12))
    if (portion.full || (stop === smallStops.noRoom && next === at)) await this.flush()
    if (stop !== smallStops.special) return next
    const { item, next: behind } = decodeItem(request, next)
    if (this.smallOnly) this.outcome(item.index, 'changed')
    else await this.item(item)
    return behind
  }

  private takeFound(end: number): void {
    const out = this.results
    for (let at = foundAt; at < end;) {
      const result = found.subarray(at, at + 5)
      const status = found.readUInt8(at + 4)
      at += 5
      if (status === outcomeNumbers.entry) {
        const head = at + 12
        const start = found.readUInt32LE(at)
        const size = found.readUInt32LE(at + 4)
        at = head + found.readUInt32LE(at + 8)
        if (isPacked(size)) {
          this.portion.addFile(start, start + size, result, found.subarray(head, at))
          continue
        }
        out.raw(result).raw(found.subarray(head, at))
        this.smallContent(start, start + size)
        out.u32(0)
        continue
      }
      out.raw(result)
      if (status === outcomeNumbers.unreadable) {
        writeText(out, getSystemErrorName(-found.readUInt32LE(at)))
        at += 4
      }
    }
  }

  private smallContent(start: number, end: number): void {
    const { portion, results } = this
    const size = end - start
    if (size <= maxInlineBytes) {
      writeInlineContent(results, portion.memory.subarray(start, end))
    } else {
      const ends = portion.cut(start, end, true)
      writeExtentsHead(results, ends.length)
      let from = start
      for (const to of ends) {
        portion.add(from, to, results)
        from = to
      }
    }
  }

  // ---- 2. other items

  private async item(item: SealItem): Promise<void> {
    const { index, dirFd, name } = item
    try {
      const stat = statAt(dirFd, name)
      const type = typeOf(stat)
      if (type === 'file') return await this.file(item)
      if (type === undefined || type === 'directory') return this.outcome(index, 'gone')
      const attributes = attributesOf(name, stat, xattrsAt(dirFd, name))
      if (type === 'symlink')
        return this.entry(index, { ...attributes, type, target: readlinkAt(dirFd, name) })
      if (type === 'character' || type === 'block')
        return this.entry(index, { ...attributes, type, rdev: stat.rdev })
      return this.entry(index, { ...attributes, type })
    } catch (error) {
      if (error instanceof Changed) return this.outcome(index, 'changed')
      const code = errnoCode(error)
      if (code === 'ENOENT') return this.outcome(index, 'gone')
      if (code === undefined) throw error
      this.outcome(index, 'unreadable')
      writeText(this.results, code)
    }
  }

  private outcome(index: number, outcome: keyof typeof outcomeNumbers): void {
    this.results.u32(index).u8(outcomeNumbers[outcome])
  }

  /** An entry whose content is all there. */
  private entry(index: number, entry: Entry): void {
    this.outcome(index, 'entry')
    writeEntry(this.results, entry)
    this.results.u32(0)
  }

  private async file({ index, dirFd, name, spans, size: wanted, last }: SealItem): Promise<void> {
    const fd = openToRead(dirFd, name)
    try {
      const before = statFd(fd)
      if (typeOf(before) !== 'file') return this.outcome(index, 'gone')
      if (spans && before.size !== wanted) throw new Changed()
      const attributes = attributesOf(name, before, xattrsFd(fd))
      let inline: Buffer | undefined
      let cuts: Cut[] = []
      if (before.size <= maxInlineBytes) {
        const bytes = Buffer.alloc(before.size)
        inline = bytes.subarray(0, readFully(fd, bytes, 0, before.size, 0))
        attributes.size = inline.length
      } else if (spans) {
        cuts = await this.spans(fd, before, spans)
      } else {
        const whole = await this.whole(fd, before)
        cuts = [whole]
        attributes.size = whole.to
      }
      if (!atRest(before, statFd(fd)) || attributes.size !== before.size) {
        if (!last) throw new Changed()
        attributes.busy = true
      }
      if (inline)
        this.entry(index, { ...attributes, type: 'file', content: { kind: 'inline', bytes: inline } })
      else this.drafts.push({ index, attributes, cuts })
    } finally {
      close(fd)
    }
  }

  /** All of the file: data between holes is cut each by itself. */
  private async whole(fd: number, stat: FileStat): Promise<Cut> {
    const cut = newCut(0)
    if (stat.blocks * 512 >= stat.size) {
      await this.cut(fd, stat.size, cut)
      return cut
    }
    while (cut.to < stat.size) {
      const data = seekData(fd, cut.to)
      const start = data < 0 ? stat.size : Math.min(data, stat.size)
      if (start > cut.to) {
        writeExtent(cut.extents, { kind: 'hole', bytes: start - cut.to })
        cut.count++
        cut.to = start
      }
      if (cut.to >= stat.size) break
      const hole = seekHole(fd, cut.to)
      const end = hole < 0 ? stat.size : Math.min(hole, stat.size)
      await this.cut(fd, end, cut)
      if (cut.to < end) break
    }
    return cut
  }

  private async spans(fd: number, stat: FileStat, requests: readonly SpanRequest[]): Promise<Cut[]> {
    const cuts: Cut[] = []
    for (const { from, until, ends } of requests) {
      const cut = newCut(from)
      const old = { until, ends: new Set(ends) }
      await this.cut(fd, stat.size, cut, old)
      if (cut.to < stat.size && !old.ends.has(cut.to)) throw new Changed()
      cuts.push(cut)
    }
    return cuts
  }

  /** Cuts bytes from cut.to up to `to` into chunks; stops where it meets an old end, or where the file ends. */
  private async cut(fd: number, to: number, cut: Cut, old?: OldEnds): Promise<void> {
    const { portion } = this
    let read = cut.to
    /** Of what is read and not cut yet. */
    let start = portion.used
    for (;;) {
      if (portion.full) {
        await this.flush(start)
        start = 0
      }
      // Behind the change, as a rule, the next cut meets an old one.
      const step = old ? Math.max(old.until - read, 0) + defaultSizes.average : Infinity
      const wanted = Math.min(portion.memory.length - portion.used, to - read, step)
      const got = readFully(fd, portion.memory, portion.used, wanted, read)
      read += got
      portion.used += got
      const done = read === to || got < wanted
      for (const end of portion.cut(start, portion.used, done)) {
        portion.add(start, end, cut.extents)
        cut.count++
        cut.to += end - start
        start = end
        if (!old || cut.to < old.until || !old.ends.has(cut.to)) continue
        portion.used = start
        return
      }
      if (done) return
    }
  }

  // ---- 3. what was read

  /** A small file; nothing is flushed while another result is half written. */
  settleFile(head: Buffer, extent: Buffer): void {
    writeExtentsHead(this.results.raw(head), 1)
    this.results.raw(extent).u32(0)
  }

  /** A file of few extents, read as a whole, has its content in its entry; others have their spans beside it. */
  private settle({ index, attributes, cuts }: Draft): void {
    const [whole] = cuts
    let content: FileContent = voidContent
    let beside = cuts
    if (whole && cuts.length === 1 && whole.from === 0 && whole.to === attributes.size) {
      if (whole.count > 0 && whole.count <= maxDirectExtents) {
        const extents = readExtents(new Reader(whole.extents.finish(), 'cut file'), whole.count)
        content = { kind: 'extents', extents }
        beside = []
      }
    }
    this.outcome(index, 'entry')
    writeEntry(this.results, { ...attributes, type: 'file', content })
    this.results.u32(beside.length)
    for (const { from, to, count, extents } of beside)
      this.results.number(from).number(to).u32(count).raw(extents.finish())
  }
}

/** Stands where the content will be: the spans that go along say what it is. */
const voidContent = { kind: 'list', node: { name: Buffer.alloc(32), sealedBytes: 1024 } } as const

function newCut(from: number): Cut {
  return { from, to: from, count: 0, extents: new Writer() }
}

function writeText(out: Writer, text: string): void {
  const bytes = Buffer.from(text.slice(0, 200), 'latin1')
  out.u8(bytes.length).raw(bytes)
}

/** Without changing the atime where that is allowed (to the file's owner and to root). */
function openToRead(dirFd: number, name: Buffer): number {
  const flags = constants.O_RDONLY | constants.O_NONBLOCK
  try {
    return openAt(dirFd, name, flags | constants.O_NOATIME)
  } catch (error) {
    if (errnoCode(error) !== 'EPERM') throw error
    return openAt(dirFd, name, flags)
  }
}

function readFully(fd: number, into: Buffer, offset: number, length: number, position: number): number {
  let done = 0
  while (done < length) {
    const got = readSync(fd, into, offset + done, length - done, position + done)
    if (got === 0) break
    done += got
  }
  return done
}
