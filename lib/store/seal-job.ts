/**
 * One job of a worker thread: reads entries of a directory, cuts files into chunks, asks which are known, seals the
 * others. Runs beside one more job in its thread, so that the wait for an answer is not idle.
 *
 * A file is as of one instant: its status before and after the reading must agree in size, mtime and ctime. When they
 * do not, the item comes back as changed and is tried again; at the last try it is taken as read, and marked busy.
 *
 * Bytes in flight: two portions of some 4 MiB a job, whatever the size of the file.
 */
import { constants, readSync } from 'node:fs'
import { close, errnoCode, openAt, readlinkAt, seekData, seekHole, statAt, statFd } from '../base/posix.js'
import { xattrsAt, xattrsFd, type FileStat } from '../base/posix.js'
import { Writer } from '../format/bytes.js'
import type { Chunker } from '../format/chunker.js'
import { maxDirectExtents, maxInlineBytes, type Entry, type Extent } from '../format/entry.js'
import { chunkId, chunkKey, sealChunk } from '../format/seal.js'
import { atRest, attributesOf, typeOf } from './entries.js'
import {
  asBuffer,
  encodeResults,
  type FromWorker,
  type JobMessage,
  ownBytes,
  type SealItem,
  type SealRequest,
  type SealResult,
  type Span,
  type SpanRequest,
} from './seal-messages.js'

/** Plaintext gathered before the next question. */
const portionBytes = 4 * 1024 * 1024

type ChunkExtent = Extract<Extent, { kind: 'chunk' }>

interface Gathered {
  plain: Buffer
  id: Buffer
  extent: ChunkExtent
}

/** The file changed under the reader's hands. */
class Changed extends Error {}
class JobOff extends Error {}

export class SealJob {
  private gathered: Gathered[] = []
  private gatheredBytes = 0
  /** The portion before, on its way. */
  private sealing: Promise<void> = Promise.resolve()
  private readonly answers: ((rows: Buffer | undefined) => void)[] = []

  constructor(
    private readonly message: JobMessage,
    private readonly request: SealRequest,
    private readonly chunker: Chunker,
    private readonly post: (message: FromWorker, transfer?: ArrayBuffer[]) => void,
  ) {}

  async run(): Promise<void> {
    const { job } = this.message
    try {
      const results: SealResult[] = []
      for (const item of this.request.items) results.push(await this.item(item))
      await this.flush()
      await this.sealing
      for (const result of results) if (result.outcome === 'entry') settle(result)
      const encoded = encodeResults(results)
      this.post({ kind: 'done', job, results: encoded }, [encoded.buffer as ArrayBuffer])
    } catch (error) {
      await this.sealing.catch(() => undefined)
      this.post({ kind: 'failed', job, why: error instanceof Error ? (error.stack ?? error.message) : 'off' })
    }
  }

  answer(rows: Uint8Array | undefined): void {
    this.answers.shift()?.(rows && asBuffer(rows))
  }

  private async item(item: SealItem): Promise<SealResult> {
    const { index, name } = item
    try {
      const stat = statAt(this.message.dirFd, name)
      const type = typeOf(stat)
      if (type === 'file') return await this.file(item, name)
      if (type === undefined || type === 'directory') return { index, outcome: 'gone' }
      const attributes = attributesOf(name, stat, xattrsAt(this.message.dirFd, name))
      let entry: Entry
      if (type === 'symlink') {
        entry = { ...attributes, type, target: readlinkAt(this.message.dirFd, name) }
      } else if (type === 'character' || type === 'block') entry = { ...attributes, type, rdev: stat.rdev }
      else entry = { ...attributes, type }
      return { index, outcome: 'entry', entry, spans: [] }
    } catch (error) {
      if (error instanceof Changed) return { index, outcome: 'changed' }
      const code = errnoCode(error)
      if (code === 'ENOENT') return { index, outcome: 'gone' }
      if (code !== undefined) return { index, outcome: 'unreadable', why: code }
      throw error
    }
  }

  private async file(item: SealItem, name: Buffer): Promise<SealResult> {
    const fd = openToRead(this.message.dirFd, name)
    try {
      const before = statFd(fd)
      if (typeOf(before) !== 'file') return { index: item.index, outcome: 'gone' }
      if (item.spans && before.size !== item.size) throw new Changed()
      const attributes = attributesOf(name, before, xattrsFd(fd))
      let entry: Entry
      let spans: Span[] = []
      if (before.size <= maxInlineBytes) {
        const bytes = Buffer.alloc(before.size)
        const size = readFully(fd, bytes, 0, before.size, 0)
        entry = {
          ...attributes,
          size,
          type: 'file',
          content: { kind: 'inline', bytes: bytes.subarray(0, size) },
        }
      } else {
        spans = item.spans ? await this.spans(fd, before, item.spans) : [await this.whole(fd, before)]
        const size = item.spans ? before.size : (spans[0]?.to ?? 0)
        entry = { ...attributes, size, type: 'file', content: voidContent }
      }
      if (!atRest(before, statFd(fd)) || entry.size !== before.size) {
        if (!item.last) throw new Changed()
        entry.busy = true
      }
      return { index: item.index, outcome: 'entry', entry, spans }
    } finally {
      close(fd)
    }
  }

  /** All of the file: data between holes is cut each by itself. */
  private async whole(fd: number, stat: FileStat): Promise<Span> {
    const extents: Extent[] = []
    if (stat.blocks * 512 >= stat.size) {
      const to = await this.cut(fd, 0, stat.size, extents)
      return { from: 0, to, extents }
    }
    let at = 0
    while (at < stat.size) {
      const data = seekData(fd, at)
      const start = data < 0 ? stat.size : Math.min(data, stat.size)
      if (start > at) extents.push({ kind: 'hole', bytes: start - at })
      at = start
      if (at >= stat.size) break
      const hole = seekHole(fd, at)
      const end = hole < 0 ? stat.size : Math.min(hole, stat.size)
      const to = await this.cut(fd, at, end, extents)
      at = to
      if (to < end) break
    }
    return { from: 0, to: at, extents }
  }

  private async spans(fd: number, stat: FileStat, requests: readonly SpanRequest[]): Promise<Span[]> {
    const spans: Span[] = []
    for (const { from, until, ends } of requests) {
      const extents: Extent[] = []
      const meets = new Set(ends)
      const to = await this.cut(fd, from, stat.size, extents, (at) => at >= until && meets.has(at))
      if (to < stat.size && !meets.has(to)) throw new Changed()
      spans.push({ from, to, extents })
    }
    return spans
  }

  /** Cuts bytes [from, to) into chunks; stops where `meets` says so, or where the file ends. Returns where it got to. */
  private async cut(
    fd: number,
    from: number,
    to: number,
    extents: Extent[],
    meets?: (at: number) => boolean,
  ): Promise<number> {
    const { memory } = this.chunker
    let carry = Buffer.alloc(0)
    let read = from
    let at = from
    for (;;) {
      // The memory is shared with the thread's other job: it holds nothing of ours across an await.
      carry.copy(memory)
      const wanted = Math.min(memory.length - carry.length, to - read)
      const got = readFully(fd, memory, carry.length, wanted, read)
      read += got
      const length = carry.length + got
      const done = read === to || got < wanted
      let start = 0
      for (const end of this.chunker.cut(length, done)) {
        this.gather(Buffer.from(memory.subarray(start, end)), extents)
        at += end - start
        start = end
        if (meets?.(at)) return at
      }
      if (done) return at
      carry = Buffer.from(memory.subarray(start, length))
      if (this.gatheredBytes >= portionBytes) await this.flush()
    }
  }

  private gather(plain: Buffer, extents: Extent[]): void {
    const key = chunkKey(this.request.convergence, plain)
    const chunk = { name: noName, key, plainBytes: plain.length, sealedBytes: 0 }
    const extent: ChunkExtent = { kind: 'chunk', chunk }
    extents.push(extent)
    this.gathered.push({ plain, id: chunkId(key), extent })
    this.gatheredBytes += plain.length
  }

  /** Asks for what is gathered, and lets it be sealed while the next portion is read. */
  private async flush(): Promise<void> {
    const portion = this.gathered
    this.gathered = []
    this.gatheredBytes = 0
    const before = this.sealing
    if (portion.length > 0) {
      const rows = this.ask(portion.map(({ id }) => id))
      this.sealing = before.then(async () => this.seal(portion, await rows))
      // Whoever waits for it next gets the error; until then it is no unhandled one.
      this.sealing.catch(() => undefined)
    }
    await before
  }

  private ask(ids: Buffer[]): Promise<Buffer | undefined> {
    const out = new Writer(Math.max(ownBytes, ids.length * 32))
    for (const id of ids) out.raw(id)
    this.post({ kind: 'ask', job: this.message.job, ids: out.finish() })
    return new Promise((resolve) => this.answers.push(resolve))
  }

  private seal(portion: readonly Gathered[], rows: Buffer | undefined): void {
    if (!rows) throw new JobOff('the job is off')
    const plainBytes = portion.reduce((sum, { plain }) => sum + plain.length, 0)
    const out = new Writer(Math.max(ownBytes, plainBytes / 2))
    const sealed = new Map<string, { name: Buffer; sealedBytes: number }>()
    portion.forEach(({ plain, id, extent }, i) => {
      const known = rows.readUInt32LE(i * 36 + 32)
      if (known > 0) {
        extent.chunk.name = rows.subarray(i * 36, i * 36 + 32)
        extent.chunk.sealedBytes = known
        return
      }
      const twin = sealed.get(id.toString('latin1'))
      if (twin) {
        Object.assign(extent.chunk, twin)
        return
      }
      const { ref, bytes } = sealChunk(extent.chunk.key, plain)
      out.raw(id).raw(ref.name).u32(bytes.length).raw(bytes)
      const row = { name: ref.name, sealedBytes: ref.sealedBytes }
      sealed.set(id.toString('latin1'), row)
      Object.assign(extent.chunk, row)
    })
    if (sealed.size === 0) return
    const blocks = out.finish()
    this.post({ kind: 'blocks', job: this.message.job, blocks }, [blocks.buffer as ArrayBuffer])
  }
}

const noName = Buffer.alloc(32)
/** Stands where the content will be: the spans that go along say what it is. */
const voidContent = { kind: 'list', node: { name: noName, sealedBytes: 1024 } } as const

/** A file of few extents, read as a whole, has its content in its entry; now that the chunks' names are known. */
function settle(result: Extract<SealResult, { outcome: 'entry' }>): void {
  const { entry, spans } = result
  const [whole] = spans
  if (entry.type !== 'file' || !whole || spans.length > 1 || whole.from > 0 || whole.to !== entry.size) return
  if (whole.extents.length === 0 || whole.extents.length > maxDirectExtents) return
  entry.content = { kind: 'extents', extents: whole.extents }
  result.spans = []
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
