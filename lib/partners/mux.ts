/**
 * Protomux over a Noise stream, with a guard between them. Protomux trusts the shape of what it reads: a malformed
 * control message can make it throw where nobody catches, and it keeps any number of channels that the peer opens.
 * The guard reads the framing of each piece first and ends the connection at the first one that is not well formed:
 *
 *     piece     channel varint | type varint | body        channel 0: control
 *     batch     0 | 0 | channel varint | { length varint > 0, that many bytes: type varint | body
 *                                        | 0, the channel of what follows: varint }
 *     open      0 | 1 | channel varint | protocol: length varint, UTF-8 | id: flag u8, if 1: length varint, bytes | handshake
 *     reject    0 | 2 | channel varint
 *     close     0 | 3 | channel varint
 * A varint is one byte up to 252, or 253 and u16, 254 and u32, 255 and u64.
 *
 * It also bounds the control messages of one connection, and with them the answers that protomux queues for them.
 */
import { EventEmitter } from 'node:events'
import type { NoiseStream } from 'hyperdht'
import Protomux, { type MessageEncoding, type MuxStream } from 'protomux'
import { KithError } from '../base/errors.js'
import { maxFrameBytes } from '../format/wire.js'

const maxChannels = 32
const maxControls = 256
const maxLabelBytes = 64
const maxOpenBytes = 1024
/** Batches hold what one side wrote in one turn; protomux cuts them at 8 MiB. */
const maxPieceBytes = 8 * 1024 * 1024 + maxFrameBytes

function malformed(what: string): KithError {
  return new KithError('protocol', `the partner broke the protocol: ${what}`)
}

class Cursor {
  constructor(
    readonly bytes: Buffer,
    public at: number,
    readonly end: number,
  ) {}

  skip(length: number): number {
    if (length > this.end - this.at) throw malformed('a piece ends too early')
    this.at += length
    return this.at - length
  }

  varint(): number {
    const first = this.bytes.readUInt8(this.skip(1))
    if (first <= 252) return first
    if (first === 253) return this.bytes.readUInt16LE(this.skip(2))
    if (first === 254) return this.bytes.readUInt32LE(this.skip(4))
    throw malformed('a number is out of bounds')
  }
}

class Guard {
  private controls = 0

  /** @throws KithError `protocol` */
  check(piece: Buffer): void {
    if (piece.length > maxPieceBytes) throw malformed('a piece is too long')
    const cursor = new Cursor(piece, 0, piece.length)
    const channel = cursor.varint()
    if (channel !== 0) this.message(cursor)
    else this.control(cursor, cursor.varint(), true)
  }

  private message(cursor: Cursor): void {
    cursor.varint()
  }

  private control(cursor: Cursor, type: number, mayBatch: boolean): void {
    if (type === 0 && mayBatch) return this.batch(cursor)
    if (++this.controls > maxControls) throw malformed('too many control messages')
    if (type < 1 || type > 3) throw malformed('an unknown control message')
    const channel = cursor.varint()
    if (channel < 1 || channel > maxChannels) throw malformed('a channel is out of bounds')
    if (type !== 1) return
    if (cursor.end - cursor.at > maxOpenBytes) throw malformed('a channel opens with too much')
    this.label(cursor)
    const flag = cursor.bytes.readUInt8(cursor.skip(1))
    if (flag > 1) throw malformed('a flag is out of bounds')
    if (flag === 1) this.label(cursor)
  }

  private label(cursor: Cursor): void {
    const length = cursor.varint()
    if (length > maxLabelBytes) throw malformed('a label is too long')
    cursor.skip(length)
  }

  private batch(cursor: Cursor): void {
    let channel = cursor.varint()
    while (cursor.at < cursor.end) {
      const length = cursor.varint()
      if (length === 0) {
        channel = cursor.varint()
        continue
      }
      const start = cursor.skip(length)
      const inner = new Cursor(cursor.bytes, start, start + length)
      const type = inner.varint()
      if (channel === 0) this.control(inner, type, false)
    }
  }
}

/** Messages as parts, which are copied once, into the piece that is sent. */
export const inParts: MessageEncoding = {
  preencode(state, parts) {
    for (const part of parts) state.end += part.length
  },
  encode(state, parts) {
    for (const part of parts) {
      state.buffer.set(part, state.start)
      state.start += part.length
    }
  },
  decode(state) {
    const bytes = state.buffer.subarray(state.start, state.end)
    state.start = state.end
    return bytes
  },
}

/** What protomux is given for the stream: passes everything on but pieces that the guard refuses. */
class GuardedStream extends EventEmitter implements MuxStream {
  userData: unknown = null

  constructor(private readonly stream: NoiseStream) {
    super()
    const guard = new Guard()
    let refused = false
    stream.on('data', (piece: Buffer) => {
      if (refused) return
      try {
        if (piece.length > 0) guard.check(piece)
      } catch (error) {
        refused = true
        stream.destroy(error as Error)
        return
      }
      this.emit('data', piece)
    })
    for (const event of ['drain', 'end', 'close']) stream.on(event, () => this.emit(event))
    stream.on('error', (error) => this.emit('error', error))
  }

  get destroyed(): boolean {
    return this.stream.destroyed
  }
  alloc(length: number): Buffer {
    // Where the stream encrypts it in place; elsewhere it would be copied.
    return this.stream.alloc(length)
  }
  write(bytes: Buffer): boolean {
    return this.stream.write(bytes)
  }
  end(): void {
    this.stream.end()
  }
  pause(): void {
    this.stream.pause()
  }
  resume(): void {
    this.stream.resume()
  }
  destroy(error?: Error): void {
    this.stream.destroy(error)
  }
}

/** The one mux of a connection: each channel on it (sessions, circles) goes through the guard. */
export function muxOf(stream: NoiseStream): Protomux {
  if (stream.userData instanceof Protomux) return stream.userData
  const mux = new Protomux(new GuardedStream(stream))
  stream.userData = mux
  return mux
}
