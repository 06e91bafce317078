/**
 * Serves the control socket: JSON-RPC 2.0, one JSON text per line (api.ts).
 *
 * What comes in is hostile until parsed: a line is bounded before it is kept; what is no UTF-8 or no JSON gets an error
 * and the end of the connection; what is JSON but no request of ours gets an error reply. Only our own user may connect:
 * the socket is 0600 inside a home of 0700, and the kernel's word on the peer's uid is checked besides.
 *
 * Bounds: connections (further ones are told so and closed), requests at work per connection (reading pauses), the size
 * of a line. A client that does not read its progress notes gets fewer of them. A client that goes away cancels its jobs.
 * Items of a listing wait for the client instead.
 */
import { setMaxListeners } from 'node:events'
import { chmodSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import type { ZodError } from 'zod'
import { sleep, type Clock } from '../base/clock.js'
import { asKithError, exitCodes, KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { peerCredentials } from '../base/posix.js'
import {
  maxLineBytes,
  methods,
  type Item,
  type MethodName,
  type Params,
  type ProgressNote,
  type Result,
} from './api.js'
import { socketName, socketPath } from './socket-path.js'

const maxConnections = 64
const maxAtWork = 16
const maxNotesBytes = 256 * 1024
const noteIntervalMs = 100

/** What a method is given besides its parameters. */
export interface Job<I = never> {
  /** Aborted when the client has gone away. */
  signal: AbortSignal
  /** Passes a note on, at most ten a second; the first and the last of a stage always. */
  progress(note: ProgressNote): void
  /** Sends items of a listing; resolves when more may come. Throws KithError cancelled when the client has gone away. */
  send(items: readonly I[]): Promise<void>
}

export type Handlers = {
  [M in MethodName]: (params: Params<M>, job: Job<Item<M>>) => Promise<Result<M>>
}

export class ControlServer {
  #home: string
  #handlers: Handlers
  #clock: Clock
  #log: Log
  #server: Server
  #connections = new Set<Connection>()
  #place: { close(): void } | undefined

  constructor(home: string, handlers: Handlers, { clock, log }: { clock: Clock; log: Log }) {
    this.#home = home
    this.#handlers = handlers
    this.#clock = clock
    this.#log = log
    this.#server = createServer((socket) => this.#accept(socket))
  }

  /** Serves; the caller holds the lock of the home, so that a socket that is there already is a dead one. */
  async listen(): Promise<void> {
    const file = join(this.#home, socketName)
    rmSync(file, { force: true })
    const place = socketPath(this.#home)
    this.#place = place
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(place.path, () => {
        this.#server.removeListener('error', reject)
        this.#server.on('error', (error) => this.#log.error({ error: error.message }, 'control socket'))
        resolve()
      })
    })
    chmodSync(file, 0o600)
  }

  /** Takes no more connections and cancels all jobs. Connections stay until `end`, so that clients see when we are gone. */
  stopListening(): void {
    this.#server.close()
    for (const connection of this.#connections) connection.cancel()
  }

  /** Ends the connections once what was answered is written, at the latest after a second. */
  async end(): Promise<void> {
    const gone = [...this.#connections].map((connection) => connection.end())
    await Promise.race([Promise.all(gone), sleep(this.#clock, 1000)])
    for (const connection of this.#connections) connection.destroy()
    this.#place?.close()
    this.#place = undefined
  }

  #accept(socket: Socket): void {
    const refusal = this.#refusal(socket)
    if (refusal !== undefined) {
      this.#log.warn({ refusal }, 'refused a control connection')
      socket.on('error', () => undefined)
      socket.end(`${reply(null, { error: { code: -32000, message: refusal, data: { code: 'denied' } } })}\n`)
      socket.destroySoon()
      return
    }
    const connection = new Connection(socket, this.#handlers, this.#clock, this.#log)
    this.#connections.add(connection)
    socket.once('close', () => this.#connections.delete(connection))
  }

  #refusal(socket: Socket): string | undefined {
    const fd = descriptorOf(socket)
    if (fd === undefined) return 'the connection is gone'
    if (peerCredentials(fd).uid !== process.getuid?.()) return 'this daemon serves its own user only'
    if (this.#connections.size >= maxConnections)
      return 'too many connections to the daemon at once; try again'
    return undefined
  }
}

/** Node keeps the descriptor of a socket in its handle. */
function descriptorOf(socket: Socket): number | undefined {
  const handle = (socket as unknown as { _handle?: { fd?: number } })._handle
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined
}

type Id = string | number | null
type Outcome = { result: unknown } | { error: { code: number; message: string; data?: unknown } }

function reply(id: Id, outcome: Outcome): string {
  return JSON.stringify({ jsonrpc: '2.0', id, ...outcome })
}

class Connection {
  #socket: Socket
  #handlers: Handlers
  #clock: Clock
  #log: Log
  #abort = new AbortController()
  #rest: Buffer[] = []
  #restBytes = 0
  #lines: Buffer[] = []
  #atWork = 0
  #ending = false
  #closing = false

  constructor(socket: Socket, handlers: Handlers, clock: Clock, log: Log) {
    this.#socket = socket
    this.#handlers = handlers
    this.#clock = clock
    this.#log = log
    setMaxListeners(0, this.#abort.signal) // one or more for each request at work
    socket.on('data', (data) => this.#receive(data))
    socket.on('error', () => undefined) // `close` follows
    socket.on('close', () => this.#abort.abort())
  }

  /** Takes no more requests, and aborts those at work. */
  cancel(): void {
    this.#ending = true
    this.#abort.abort()
  }

  /** Closes when the requests at work are answered. */
  end(): Promise<void> {
    this.cancel()
    this.#closing = true
    const closed = new Promise<void>((resolve) => {
      if (this.#socket.destroyed) resolve()
      else this.#socket.once('close', () => resolve())
    })
    if (this.#atWork === 0) this.#socket.destroySoon()
    return closed
  }

  destroy(): void {
    this.#socket.destroy()
  }

  #receive(data: Buffer): void {
    let from = 0
    for (let at = data.indexOf(10); at >= 0; at = data.indexOf(10, from)) {
      if (this.#restBytes + at - from > maxLineBytes) return this.#refuse('the line is too long')
      this.#lines.push(Buffer.concat([...this.#rest, data.subarray(from, at)]))
      this.#rest = []
      this.#restBytes = 0
      from = at + 1
    }
    if (from < data.length) this.#rest.push(data.subarray(from))
    this.#restBytes += data.length - from
    if (this.#restBytes > maxLineBytes) return this.#refuse('the line is too long')
    this.#work()
  }

  /** Starts what was received, up to the bound; reading pauses while more is waiting. */
  #work(): void {
    while (this.#atWork < maxAtWork && !this.#ending) {
      const line = this.#lines.shift()
      if (!line) break
      void this.#request(line)
    }
    if (this.#lines.length > 0) this.#socket.pause()
    else this.#socket.resume()
  }

  /** Says why, and ends the connection. */
  #refuse(message: string): void {
    if (this.#ending) return
    this.#lines = []
    this.#rest = []
    this.#write(reply(null, { error: { code: -32700, message } }))
    void this.end()
  }

  async #request(line: Buffer): Promise<void> {
    let value: unknown
    try {
      value = JSON.parse(new TextDecoder('utf8', { fatal: true }).decode(line))
    } catch {
      return this.#refuse('this is no JSON text')
    }
    const request = parseRequest(value)
    if (!request) {
      this.#write(reply(null, { error: { code: -32600, message: 'this is no JSON-RPC 2.0 request' } }))
      return
    }
    if (request.id === undefined) return // a notification: none has a meaning here
    this.#atWork++
    const outcome = await this.#run(request.id, request.method, request.params)
    this.#atWork--
    this.#write(reply(request.id, outcome))
    if (!this.#ending) this.#work()
    else if (this.#atWork === 0 && this.#closing) this.#socket.destroySoon()
  }

  async #run(id: Id, name: string, given: unknown): Promise<Outcome> {
    if (!isMethod(name))
      return { error: { code: -32601, message: `the daemon has no method '${name.slice(0, 64)}'` } }
    const params = methods[name].params.safeParse(given ?? {})
    if (!params.success) {
      const message = `${name}: ${describe(params.error)}`
      return { error: { code: -32602, message, data: { code: 'usage' } } }
    }
    const job = {
      signal: this.#abort.signal,
      progress: this.#notes(id),
      send: (items: readonly unknown[]) => this.#send(id, name, items),
    }
    try {
      const handler = this.#handlers[name] as (params: unknown, job: Job) => Promise<unknown>
      return { result: methods[name].result.parse(await handler(params.data, job)) }
    } catch (error) {
      const known = this.#abort.signal.aborted ? new KithError('cancelled', 'cancelled') : asKithError(error)
      if (known.code === 'internal')
        this.#log.error({ method: name, error: stackOf(error) }, 'a request failed')
      return {
        error: { code: -32000 - exitCodes[known.code], message: known.message, data: { code: known.code } },
      }
    }
  }

  /** Passes on one note per interval, and each first and last one of a stage. */
  #notes(id: Id): (note: ProgressNote) => void {
    let stage = ''
    let next = 0
    return (note) => {
      const now = this.#clock.monotonic()
      const due = note.stage !== stage || now >= next || (note.total > 0 && note.done >= note.total)
      if (!due || this.#socket.destroyed || this.#socket.writableLength > maxNotesBytes) return
      stage = note.stage
      next = now + noteIntervalMs
      this.#write(JSON.stringify({ jsonrpc: '2.0', method: 'progress', params: { id, ...note } }))
    }
  }

  async #send(id: Id, name: MethodName, items: readonly unknown[]): Promise<void> {
    if (this.#abort.signal.aborted) throw new KithError('cancelled', 'cancelled')
    const params = { id, items: items.map((item) => methods[name].item.parse(item) as unknown) }
    this.#write(JSON.stringify({ jsonrpc: '2.0', method: 'items', params }))
    if (!this.#socket.writableNeedDrain || this.#socket.destroyed) return
    const { signal } = this.#abort
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#socket.removeListener('drain', done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#socket.once('drain', done)
      signal.addEventListener('abort', done)
    })
  }

  #write(line: string): void {
    if (!this.#socket.destroyed && this.#socket.writable) this.#socket.write(`${line}\n`)
  }
}

interface Request {
  /** absent in a notification */
  id?: Id
  method: string
  params: unknown
}

function parseRequest(value: unknown): Request | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const { jsonrpc, id, method, params } = value as Record<string, unknown>
  if (jsonrpc !== '2.0' || typeof method !== 'string') return undefined
  if (id === undefined) return { method, params }
  const known = id === null || Number.isFinite(id) || (typeof id === 'string' && id.length <= 256)
  return known ? { id: id as Id, method, params } : undefined
}

function isMethod(name: string): name is MethodName {
  return Object.hasOwn(methods, name)
}

function describe(error: ZodError): string {
  const issue = error.issues[0]
  if (!issue) return 'bad parameters'
  const at = issue.path.join('.')
  return at === '' ? issue.message : `${at}: ${issue.message}`
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
