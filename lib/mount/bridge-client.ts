/**
 * The daemon's end of the bridge to one kith-fuse: greets, asks, and answers what kith-fuse asks about `.snapshots`.
 */
import { EventEmitter } from 'node:events'
import { closeSync, constants, openSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import type { Clock } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import {
  bridgeVersion,
  decodeAnswer,
  decodeServerHello,
  encodeAnswer,
  encodeDaemonHello,
  encodeFrame,
  FrameSplitter,
  frameTypes,
  type Frame,
  type ServerHello,
} from '../format/bridge.js'

/** Answers one request of kith-fuse: an errno, 0 for none, and the body. Never rejects. */
export type RequestHandler = (type: number, payload: Buffer) => Promise<{ errno: number; body: Buffer }>

export const bridgeSocket = 'bridge.sock'
const greetingMs = 5_000
/** Writing back mapped pages and unmounting wait for disks. */
const commandMs = 60_000

interface Waiting {
  resolve(body: Buffer): void
  reject(error: Error): void
}

interface Events {
  wake: []
  /** another daemon took over */
  replaced: []
  /** the connection is gone: kith-fuse ended, or another daemon took over */
  closed: []
}

/** Connects to a socket in a directory whose path may be longer than an address can hold. */
async function connectIn(dir: string, name: string): Promise<Socket> {
  const fd = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    const socket = createConnection(`/proc/self/fd/${fd}/${name}`)
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return socket
  } finally {
    closeSync(fd)
  }
}

export class BridgeClient extends EventEmitter<Events> {
  readonly #socket: Socket
  readonly #clock: Clock
  readonly #log: Log
  readonly #splitter = new FrameSplitter()
  readonly #waiting = new Map<bigint, Waiting>()
  #handler: RequestHandler | undefined
  /** Requests that came before there was a handler; kith-fuse bounds their number, and gives up on them by itself. */
  readonly #early: Frame[] = []
  #greeted: ((hello: ServerHello) => void) | undefined
  #lastId = 0n
  #open = true

  private constructor(socket: Socket, clock: Clock, log: Log) {
    super()
    this.#socket = socket
    this.#clock = clock
    this.#log = log
    socket.on('data', (bytes: Buffer) => this.#data(bytes))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#closed())
  }

  /**
   * Connects and exchanges greetings; whoever was connected before is replaced.
   * @throws the system's error when nothing listens (ENOENT, ECONNREFUSED); KithError `timeout` or `unsupported`
   */
  static async connect(
    stateDir: string,
    { clock, log }: { clock: Clock; log: Log },
  ): Promise<{ client: BridgeClient; hello: ServerHello }> {
    const client = new BridgeClient(await connectIn(stateDir, bridgeSocket), clock, log)
    try {
      const hello = await client.#greeting()
      if (hello.version !== bridgeVersion)
        throw new KithError(
          'unsupported',
          'the running kith-fuse is of another kith; unmount the directory with it, then mount again',
        )
      client.#socket.write(encodeDaemonHello())
      return { client, hello }
    } catch (error) {
      client.close()
      throw error
    }
  }

  #greeting(): Promise<ServerHello> {
    return new Promise((resolve, reject) => {
      const gone = () => reject(new KithError('protocol', 'kith-fuse closed the connection; mount again'))
      const timer = this.#clock.after(greetingMs, () => {
        reject(new KithError('timeout', 'kith-fuse does not answer; end it, then mount again'))
      })
      this.once('closed', gone)
      this.#greeted = (hello) => {
        timer.cancel()
        this.off('closed', gone)
        resolve(hello)
      }
    })
  }

  get open(): boolean {
    return this.#open
  }

  /** Requests about `.snapshots` are answered by `handler`; those that came before this as well. */
  handle(handler: RequestHandler): void {
    this.#handler = handler
    for (const frame of this.#early.splice(0)) void this.#request(frame)
  }

  /** Asks kith-fuse. Throws KithError `timeout`, `internal` (with its errno), or `cancelled` when it is gone. */
  command(type: 'sync' | 'stop' | 'status' | 'invalidate', limitMs = commandMs): Promise<Buffer> {
    if (!this.#open) return Promise.reject(gone())
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(limitMs, () => {
        this.#waiting.delete(id)
        reject(new KithError('timeout', `kith-fuse did not answer within ${limitMs / 1000} s; try again`))
      })
      this.#waiting.set(id, {
        resolve: (body) => {
          timer.cancel()
          resolve(body)
        },
        reject: (error) => {
          timer.cancel()
          reject(error)
        },
      })
      this.#socket.write(encodeFrame(frameTypes[type], id))
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #data(bytes: Buffer): void {
    try {
      for (const frame of this.#splitter.push(bytes)) this.#frame(frame)
    } catch (error) {
      this.#log.error({ error: String(error) }, 'the bridge to kith-fuse is broken')
      this.#socket.destroy()
    }
  }

  #frame(frame: Frame): void {
    const { type, id, payload } = frame
    if (this.#greeted) {
      if (type !== frameTypes.hello) throw new KithError('protocol', 'kith-fuse did not greet')
      const greeted = this.#greeted
      this.#greeted = undefined
      greeted(decodeServerHello(payload))
    } else if (type === frameTypes.answer) {
      this.#answer(id, payload)
    } else if (type === frameTypes.wake) {
      this.emit('wake')
    } else if (type === frameTypes.replaced) {
      this.emit('replaced')
    } else if (type >= frameTypes.lookup && type <= frameTypes.files) {
      void this.#request(frame)
    } else {
      throw new KithError('protocol', 'kith-fuse sent a frame of an unknown type')
    }
  }

  #answer(id: bigint, payload: Buffer): void {
    const waiting = this.#waiting.get(id)
    if (!waiting) return
    this.#waiting.delete(id)
    const { errno, body } = decodeAnswer(payload)
    if (errno === 0) waiting.resolve(body)
    else waiting.reject(new KithError('internal', `kith-fuse reports error ${errno}; see fuse.log`))
  }

  async #request(frame: Frame): Promise<void> {
    if (!this.#handler) {
      this.#early.push(frame)
      return
    }
    const { errno, body } = await this.#handler(frame.type, frame.payload)
    if (!this.#open) return
    this.#socket.cork()
    for (const part of encodeAnswer(frame.id, errno, body)) this.#socket.write(part)
    this.#socket.uncork()
  }

  #closed(): void {
    if (!this.#open) return
    this.#open = false
    for (const waiting of this.#waiting.values()) waiting.reject(gone())
    this.#waiting.clear()
    this.emit('closed')
  }
}

function gone(): KithError {
  return new KithError('cancelled', 'the connection to kith-fuse is gone; mount the directory again')
}
