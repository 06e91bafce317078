/**
 * Talks to the daemon of a KITH_HOME over its control socket, and starts it when there is none. The command line knows
 * nothing else of the daemon. Kept light, because every `kith` command loads it: no zod, no native code.
 *
 * Trust: the home is 0700 and ours, so only our own user can have put a socket there; `connect` checks that.
 * Starting: the daemon gets a pipe as fd 3 and writes one JSON line on it, {"ready":true} or {"error":{code,message}}.
 * Two commands that start one at once are fine: the daemon that loses the lock says `busy`, and its client connects to
 * the other.
 */
import { closeSync, fchmodSync, mkdirSync, openSync, renameSync, statSync } from 'node:fs'
import { connect as connectSocket, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { asKithError, exitCodes, KithError, type ErrorCode } from '../base/errors.js'
import type { MethodName, Params, ProgressNote, Result } from './api.js'
import { socketPath } from './socket-path.js'

/** As in api.ts, which is not loaded here. */
const maxLineBytes = 1024 * 1024
/** Replies come from our own daemon; a long list of snapshots is long. */
const maxReplyBytes = 64 * 1024 * 1024
const startBoundMs = 60_000
const maxLogBytes = 8 * 1024 * 1024

export interface CallOptions {
  onProgress?: (note: ProgressNote) => void
  /** Takes items of a listing, in order. Nothing more is received until it resolves. */
  onItems?: (items: unknown[]) => Promise<void>
}

interface Pending {
  resolve(result: unknown): void
  reject(error: KithError): void
  onProgress: ((note: ProgressNote) => void) | undefined
  onItems: ((items: unknown[]) => Promise<void>) | undefined
  /** what was given to onItems is done */
  taken: Promise<void>
}

/** One connection. Calls may overlap. Closing it cancels the jobs it started. */
export class ControlClient {
  #socket: Socket
  #pending = new Map<number, Pending>()
  #nextId = 1
  #rest: Buffer[] = []
  #restBytes = 0
  /** batches of items that are being taken */
  #taking = 0
  /** Resolves when the connection has ended, by either side. */
  readonly closed: Promise<void>

  private constructor(socket: Socket) {
    this.#socket = socket
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()))
    socket.on('data', (data) => this.#receive(data))
    socket.on('close', () => this.#end('the daemon closed the connection; its log is kithd.log in KITH_HOME'))
    socket.on('error', () => undefined) // `close` follows
  }

  /** The daemon of `home`, or undefined when none runs. */
  static async connect(home: string): Promise<ControlClient | undefined> {
    checkOwner(home)
    let place
    try {
      place = socketPath(home)
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined
      throw new KithError('denied', `cannot open ${home}: ${messageOf(error)}`)
    }
    const { path, close } = place
    return new Promise((resolve, reject) => {
      const socket = connectSocket(path)
      socket.once('connect', () => {
        close()
        socket.removeAllListeners('error')
        resolve(new ControlClient(socket))
      })
      socket.once('error', (error) => {
        close()
        if (['ENOENT', 'ECONNREFUSED'].includes(errnoOf(error))) resolve(undefined)
        else reject(new KithError('noDaemon', `cannot reach the daemon of ${home}: ${error.message}`))
      })
    })
  }

  /** The daemon of `home`, started when none runs. `bootstrap` goes to a daemon started here. */
  static async connectOrStart(home: string, bootstrap?: string[]): Promise<ControlClient> {
    for (let attempt = 1; ; attempt++) {
      const running = await ControlClient.connect(home)
      if (running) return running
      const failure = await startDaemon(home, bootstrap)
      const client = await ControlClient.connect(home)
      if (client) return client
      // `busy`: one that is just starting or ending has the lock.
      if (failure?.code !== 'busy' || attempt >= 100) {
        throw failure ?? new KithError('noDaemon', `the daemon of ${home} ended at once; see kithd.log there`)
      }
      await delay(100)
    }
  }

  call<M extends MethodName>(method: M, params: Params<M>, options: CallOptions = {}): Promise<Result<M>> {
    const id = this.#nextId++
    const line = JSON.stringify({ jsonrpc: '2.0', id, method, params })
    if (Buffer.byteLength(line) > maxLineBytes) {
      return Promise.reject(new KithError('usage', 'the arguments are too long'))
    }
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(new KithError('noDaemon', 'the connection to the daemon is closed'))
        return
      }
      this.#pending.set(id, {
        // The daemon has parsed its result by the schema of this method.
        resolve: (result) => resolve(result as Result<M>),
        reject,
        onProgress: options.onProgress,
        onItems: options.onItems,
        taken: Promise.resolve(),
      })
      this.#socket.write(`${line}\n`)
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #receive(data: Buffer): void {
    let from = 0
    for (let at = data.indexOf(10); at >= 0; at = data.indexOf(10, from)) {
      const line = Buffer.concat([...this.#rest, data.subarray(from, at)]).toString('utf8')
      this.#rest = []
      this.#restBytes = 0
      from = at + 1
      this.#message(line)
    }
    this.#rest.push(data.subarray(from))
    this.#restBytes += data.length - from
    if (this.#restBytes > maxReplyBytes) this.#end('the daemon sent a line that is too long')
  }

  #message(line: string): void {
    const message = parseMessage(line)
    if (!message) return this.#end('the daemon sent something that is no JSON-RPC')
    if (message.method === 'progress') {
      const { id, ...note } = message.params ?? {}
      if (typeof id === 'number') this.#pending.get(id)?.onProgress?.(note as ProgressNote)
      return
    }
    if (message.method === 'items') {
      const { id, items } = message.params ?? {}
      const pending = typeof id === 'number' ? this.#pending.get(id) : undefined
      if (pending && Array.isArray(items)) this.#take(pending, items)
      return
    }
    const pending = typeof message.id === 'number' ? this.#pending.get(message.id) : undefined
    if (!pending) {
      if (message.error) this.#end(message.error.message ?? 'the daemon refused the connection')
      return
    }
    this.#pending.delete(message.id as number)
    const { error, result } = message
    // After the items before it; one that could not be taken fails the call.
    pending.taken.then(
      () => (error ? pending.reject(errorOf(error)) : pending.resolve(result)),
      (failure: unknown) => pending.reject(asKithError(failure)),
    )
  }

  #take(pending: Pending, items: unknown[]): void {
    this.#socket.pause()
    this.#taking++
    pending.taken = pending.taken.then(() => pending.onItems?.(items))
    const resume = () => {
      if (--this.#taking === 0) this.#socket.resume()
    }
    pending.taken.then(resume, resume)
  }

  #end(why: string): void {
    this.#socket.destroy()
    for (const pending of this.#pending.values()) pending.reject(new KithError('noDaemon', why))
    this.#pending.clear()
  }
}

interface RpcError {
  message?: string
  data?: { code?: string }
}

interface RpcMessage {
  id?: unknown
  method?: string
  params?: Record<string, unknown>
  result?: unknown
  error?: RpcError
}

function parseMessage(line: string): RpcMessage | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}

function errorOf({ message, data }: RpcError): KithError {
  const code = data?.code ?? 'internal'
  return new KithError(code in exitCodes ? (code as ErrorCode) : 'internal', message ?? 'the daemon failed')
}

function errnoOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** A home of somebody else, or one that others may enter, could hold somebody else's socket. */
function checkOwner(home: string): void {
  let stat
  try {
    stat = statSync(home)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return
    throw new KithError('denied', `cannot read ${home}: ${messageOf(error)}`)
  }
  if (!stat.isDirectory()) throw new KithError('usage', `${home} is not a directory; give another --home`)
  if (stat.uid !== process.getuid?.()) {
    throw new KithError('denied', `${home} belongs to another user; give a --home of your own`)
  }
  if ((stat.mode & 0o077) !== 0) {
    throw new KithError('denied', `${home} is open to other users; run: chmod 700 ${home}`)
  }
}

/** Starts the daemon and waits until it serves, or returns why it does not. */
async function startDaemon(home: string, bootstrap: string[] | undefined): Promise<KithError | undefined> {
  let log
  try {
    mkdirSync(home, { recursive: true, mode: 0o700 })
    log = openLogFile(join(home, 'kithd.log'))
  } catch (error) {
    const code = errnoOf(error) === 'ENOSPC' ? 'noSpace' : 'denied'
    return new KithError(code, `cannot prepare ${home} for the daemon: ${messageOf(error)}`)
  }
  const main = fileURLToPath(new URL('../daemon/main.js', import.meta.url))
  const { heapFlags } = await import('../base/heap.js')
  const args = [...heapFlags, main, '--home', home, '--ready-fd', '3']
  if (bootstrap) args.push('--bootstrap', bootstrap.join(','))
  const { spawn } = await import('node:child_process')
  const child = spawn(process.execPath, args, {
    detached: true,
    cwd: '/',
    stdio: ['ignore', log, log, 'pipe'],
  })
  closeSync(log)
  const ready = child.stdio[3] as Readable
  try {
    return await readiness(ready, home)
  } finally {
    ready.destroy()
    child.unref()
  }
}

/** Appends; a log that has grown long becomes kithd.log.1 first. */
function openLogFile(file: string): number {
  if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) > maxLogBytes) renameSync(file, `${file}.1`)
  const log = openSync(file, 'a', 0o600)
  fchmodSync(log, 0o600)
  return log
}

function readiness(ready: Readable, home: string): Promise<KithError | undefined> {
  return new Promise((resolve) => {
    let text = ''
    const timer = setTimeout(() => {
      resolve(
        new KithError('timeout', `the daemon of ${home} did not start within 60 s; see kithd.log there`),
      )
    }, startBoundMs)
    const finish = () => {
      clearTimeout(timer)
      const message = parseMessage(text)
      if (message && 'ready' in message) resolve(undefined)
      else if (message?.error)
        resolve(errorOf({ ...message.error, data: message.error as { code?: string } }))
      else resolve(new KithError('noDaemon', `the daemon of ${home} ended at once; see kithd.log there`))
    }
    ready.on('data', (data: Buffer) => {
      text += data.toString('utf8')
      if (text.includes('\n') || text.length > 65_536) finish()
    })
    ready.on('end', finish)
    ready.on('error', finish)
  })
}
