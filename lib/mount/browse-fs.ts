/**
 * The file operations of a browse mount, put as the requests that kith-fuse makes about `.snapshots` (format/bridge.ts):
 * both are answered by the same SnapshotFs. Paths are text here, as libfuse 2 by way of JavaScript has them: a name that is
 * no UTF-8 is shown with `\xNN` for its bytes, and found by that.
 *
 * Nothing here waits without end: a request that is not answered in time fails with EAGAIN, as on the live mount.
 */
import { constants } from 'node:os'
import type { Clock } from '../base/clock.js'
import { isText, nameText, parseNameText } from '../base/path-text.js'
import {
  frameTypes,
  maxReadBytes,
  readAttributes,
  readText,
  writePath,
  writeText,
  type BridgeAttributes,
} from '../format/bridge.js'
import { Reader, Writer } from '../format/bytes.js'

/** Asks about `.snapshots`. */
export type Ask = (type: number, payload: Buffer) => Promise<{ errno: number; body: Buffer }>

/** An errno, positive. */
export class BrowseError extends Error {
  constructor(readonly errno: number) {
    super(`errno ${errno}`)
  }
}

interface Known {
  path: Buffer[]
  attributes: BridgeAttributes
  until: number
}

const { EAGAIN, EINVAL, ENOENT } = constants.errno
const answerMs = 10_000
/** Names like `latest` come to lead elsewhere. */
const knownMs = 1000
const maxKnown = 20_000
const directoryType = 0o040000
const maxXattrBytes = 64 * 1024

const rootAttributes: BridgeAttributes = {
  ino: 1n,
  size: 0,
  blocks: 0,
  mtimeNs: 0n,
  mode: directoryType | 0o555,
  nlink: 2,
  uid: process.geteuid?.() ?? 0,
  gid: process.getegid?.() ?? 0,
  xattrs: 0,
  rdev: 0n,
}

export class BrowseFs {
  /** by path as text */
  readonly #known = new Map<string, Known>()

  constructor(
    private readonly ask: Ask,
    private readonly clock: Clock,
  ) {}

  /** @throws BrowseError */
  async getattr(path: string): Promise<BridgeAttributes> {
    return (await this.#find(path)).attributes
  }

  async readdir(path: string): Promise<string[]> {
    const { path: directory } = await this.#find(path)
    const names: string[] = []
    for (let after: Buffer = Buffer.alloc(0), end = false; !end;) {
      const from = new Reader(
        await this.#request(frameTypes.readdir, directory, (out) => writeText(out, after)),
        'listing of a snapshot',
      )
      const count = from.u32()
      end = from.u32() === 1
      if (count === 0 && !end) throw new BrowseError(constants.errno.EIO)
      for (let i = 0; i < count; i++) {
        const attributes = readAttributes(from)
        const name = readText(from)
        const canonical = readText(from)
        const shown = isText(name) ? name.toString() : nameText(name)
        names.push(shown)
        const inside = [...directory, canonical.length > 0 ? canonical : name]
        this.#keep(`${path === '/' ? '' : path}/${shown}`, inside, attributes)
        after = name
      }
    }
    return names
  }

  async read(path: string, offset: number, length: number): Promise<Buffer> {
    const { path: file } = await this.#find(path)
    const bytes = Math.min(length, maxReadBytes)
    return this.#request(frameTypes.read, file, (out) => out.number(offset).u32(bytes))
  }

  async readlink(path: string): Promise<Buffer> {
    return this.#request(frameTypes.readlink, (await this.#find(path)).path)
  }

  async getxattr(path: string, name: string): Promise<Buffer> {
    const found = await this.#find(path)
    // Every ls asks for some.
    if (found.attributes.xattrs === 0) throw new BrowseError(constants.errno.ENODATA)
    return this.#request(frameTypes.getxattr, found.path, (out) => writeText(out, Buffer.from(name)))
  }

  /** The names, each with a NUL after it. */
  async listxattr(path: string): Promise<Buffer> {
    const found = await this.#find(path)
    if (found.attributes.xattrs === 0) return Buffer.alloc(0)
    const names = await this.#request(frameTypes.listxattr, found.path)
    if (names.length > maxXattrBytes) throw new BrowseError(constants.errno.E2BIG)
    return names
  }

  async #find(path: string): Promise<Known> {
    if (path === '/') return { path: [], attributes: rootAttributes, until: Infinity }
    const known = this.#known.get(path)
    if (known && known.until > this.clock.monotonic()) return known
    const slash = path.lastIndexOf('/')
    const name = path.slice(slash + 1)
    const { path: directory } = await this.#find(slash === 0 ? '/' : path.slice(0, slash))
    const escaped = parseNameText(name)
    try {
      return await this.#lookup(path, directory, Buffer.from(name))
    } catch (error) {
      if (!escaped || !(error instanceof BrowseError) || error.errno !== ENOENT) throw error
      return this.#lookup(path, directory, escaped)
    }
  }

  async #lookup(path: string, directory: Buffer[], name: Buffer): Promise<Known> {
    const body = await this.#request(frameTypes.lookup, directory, (out) => writeText(out, name))
    const from = new Reader(body, 'entry of a snapshot')
    const attributes = readAttributes(from)
    const canonical = readText(from)
    return this.#keep(path, [...directory, canonical.length > 0 ? canonical : name], attributes)
  }

  #keep(path: string, inside: Buffer[], attributes: BridgeAttributes): Known {
    const known = { path: inside, attributes, until: this.clock.monotonic() + knownMs }
    this.#known.delete(path)
    this.#known.set(path, known)
    const [oldest] = this.#known.keys()
    if (this.#known.size > maxKnown && oldest !== undefined) this.#known.delete(oldest)
    return known
  }

  async #request(type: number, path: Buffer[], rest?: (out: Writer) => void): Promise<Buffer> {
    if (path.some((name) => name.length > 0xffff)) throw new BrowseError(EINVAL)
    const out = new Writer(256)
    writePath(out, path)
    rest?.(out)
    const { errno, body } = await this.#timely(this.ask(type, out.finish()))
    if (errno !== 0) throw new BrowseError(errno)
    return body
  }

  #timely<T>(answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = this.clock.after(answerMs, () => reject(new BrowseError(EAGAIN)))
      answer.then(resolve, reject).finally(() => timer.cancel())
    })
  }
}
