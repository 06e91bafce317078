/**
 * Reading and writing of byte layouts: little endian, every length checked before anything is sliced or allocated.
 * A Reader throws KithError `damaged` when the bytes do not hold what the layout asks for; it never says what they hold.
 */
import { assert, KithError } from '../base/errors.js'

export class Reader {
  #at = 0

  /** @param what names the record in error messages, e.g. `directory node` */
  constructor(
    readonly bytes: Buffer,
    readonly what: string,
  ) {}

  get at(): number {
    return this.#at
  }

  get left(): number {
    return this.bytes.length - this.#at
  }

  /** The error to throw when a field holds what the layout forbids. */
  damaged(reason: string): KithError {
    return damaged(this.what, reason)
  }

  #take(length: number): number {
    if (length > this.left) throw this.damaged('it is cut short')
    const at = this.#at
    this.#at += length
    return at
  }

  u8(): number {
    return this.bytes.readUInt8(this.#take(1))
  }

  u16(): number {
    return this.bytes.readUInt16LE(this.#take(2))
  }

  u32(): number {
    return this.bytes.readUInt32LE(this.#take(4))
  }

  u64(): bigint {
    return this.bytes.readBigUInt64LE(this.#take(8))
  }

  i64(): bigint {
    return this.bytes.readBigInt64LE(this.#take(8))
  }

  /** A 64-bit field that must be an exact number: sizes, counts, times. */
  number(): number {
    const at = this.#take(8)
    const high = this.bytes.readUInt32LE(at + 4)
    if (high > 0x1fffff) throw this.damaged('a number is too large')
    return high * 0x1_0000_0000 + this.bytes.readUInt32LE(at)
  }

  /** A view of the next `length` bytes (not a copy). */
  slice(length: number): Buffer {
    const at = this.#take(length)
    return this.bytes.subarray(at, at + length)
  }

  /** Reads bytes that the layout fixes to zero. */
  zero(length: number): void {
    for (const byte of this.slice(length)) if (byte !== 0) throw this.damaged('a reserved field is set')
  }

  /** Nothing may follow the record. */
  end(): void {
    if (this.left !== 0) throw this.damaged('bytes follow its end')
  }
}

/** The error for bytes that fail their layout, their hash or their key. */
export function damaged(what: string, reason: string): KithError {
  return new KithError('damaged', `a ${what} is damaged: ${reason}`)
}

export class Writer {
  #bytes: Buffer
  #length = 0

  constructor(capacity = 1024) {
    this.#bytes = Buffer.allocUnsafe(capacity)
  }

  get length(): number {
    return this.#length
  }

  #room(length: number): number {
    const at = this.#length
    const needed = at + length
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2))
      this.#bytes.copy(larger, 0, 0, at)
      this.#bytes = larger
    }
    this.#length = needed
    return at
  }

  u8(value: number): this {
    const at = this.#room(1)
    this.#bytes.writeUInt8(value, at)
    return this
  }

  u16(value: number): this {
    const at = this.#room(2)
    this.#bytes.writeUInt16LE(value, at)
    return this
  }

  u32(value: number): this {
    const at = this.#room(4)
    this.#bytes.writeUInt32LE(value, at)
    return this
  }

  u64(value: bigint): this {
    const at = this.#room(8)
    this.#bytes.writeBigUInt64LE(value, at)
    return this
  }

  i64(value: bigint): this {
    const at = this.#room(8)
    this.#bytes.writeBigInt64LE(value, at)
    return this
  }

  /** An exact non-negative number as 64 bits. */
  number(value: number): this {
    assert(Number.isSafeInteger(value) && value >= 0, 'sizes, counts and times are exact numbers')
    const at = this.#room(8)
    this.#bytes.writeUInt32LE(value >>> 0, at)
    this.#bytes.writeUInt32LE(Math.floor(value / 0x1_0000_0000), at + 4)
    return this
  }

  raw(bytes: Buffer): this {
    const at = this.#room(bytes.length)
    bytes.copy(this.#bytes, at)
    return this
  }

  zero(length: number): this {
    const at = this.#room(length)
    this.#bytes.fill(0, at, at + length)
    return this
  }

  /** Bytes written before, to be filled in: valid until more is written. */
  written(at: number, length: number): Buffer {
    assert(at >= 0 && at + length <= this.#length, 'these bytes were written')
    return this.#bytes.subarray(at, at + length)
  }

  /** What was written; the writer must not be used afterwards. */
  finish(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }
}
