/**
 * What the change log of a mount says, as plain data, and the layout of its file. The records of one inode are a set, not
 * a sequence: a record says "look there", and what is true now is what the files say.
 *
 * The file, little endian; native/kith-fuse/changes.cc has the invariants and the argument for races and crashes.
 * Header, 4096 bytes (who writes a field: server is kith-fuse):
 *
 *     [0..8)    `KITHLOG1`        [8..12)   version, 1          [12..16)  bytes of a record, 48
 *     [16..24)  capacity in records
 *     [24..32)  written (server)  records published so far, ever
 *     [32..40)  taken (daemon)    records up to here may no longer be changed by the server
 *     [40..48)  freed (daemon)    records up to here were made durable elsewhere; their slots may be used again
 *     [48..56)  lost (server)     grows when a change could not be recorded
 *     [56..64)  session (server)  random, new at each start of a server
 *     [64..72)  freed check (daemon)  the complement of freed
 *     [72..80)  asleep (daemon sets 1, server sets 0)  the daemon wants a wake-up for the next record
 *     [80..88)  lost seen (daemon)    the value of `lost` that it has dealt with
 *
 * Record number n, counted from 1, lies at 4096 + 48 * ((n - 1) mod capacity):
 *
 *     [0..8)    sequence: n, written last
 *     [8..16)   ino      [16..24)  parent      [24..32)  offset      [32..40)  length
 *     [40..44)  kind: 1 data, 2 truncate, 3 attributes, 4 names, 5 open, 6 close, 7 text      [44..48)  0
 *
 * Of a names record, `offset` is the number of bytes of the name, which follows in text records: 32 bytes at [8..40) of
 * each, filled up with zeros. 0 there comes from a server that told no names.
 */
import { Reader } from './bytes.js'

export type ChangeKind = 'data' | 'truncate' | 'attributes' | 'names' | 'open' | 'close'

export interface Change {
  /**
   * data: bytes [offset, offset + length) of `ino` were written, or made a hole.
   * truncate: `ino` was cut or grown; everything from `offset` on changed.
   * attributes: mode, owner, times or xattrs of `ino` changed.
   * names: the entry `name` of directory `parent`, which names `ino`, came, went or now leads elsewhere.
   * open: `ino` may change from now until its close without further records (and may have changed already).
   * close: a writing handle of `ino` was closed: the whole file counts as changed.
   */
  kind: ChangeKind
  ino: bigint
  /** the directory, for names; else 0 */
  parent: bigint
  offset: number
  length: number
  /** for names; absent where it is not known which of the directory's names it is */
  name?: Buffer
}

export const headerBytes = 4096
export const recordBytes = 48
/** Records; what a header may say at most. */
export const maxCapacity = 1 << 20

/** Where the fields that the daemon writes lie in the header. */
export const headerFields = { taken: 32, freed: 40, freedCheck: 64, asleep: 72, lostSeen: 80 } as const

const magic = Buffer.from('KITHLOG1', 'ascii')
const fieldBytes = 88
/** Follows a names record; bytes of a name in each. */
const textKind = 7
const textBytes = 32
const maxNameBytes = 255
const kinds: ChangeKind[] = ['data', 'truncate', 'attributes', 'names', 'open', 'close']

export interface LogHeader {
  capacity: number
  written: number
  taken: number
  freed: number
  lost: bigint
  session: bigint
  lostSeen: bigint
}

/** Throws KithError `damaged` unless the bytes are the header of a log in order. */
export function decodeHeader(bytes: Buffer): LogHeader {
  const from = new Reader(bytes.subarray(0, fieldBytes), 'change log')
  if (!from.slice(8).equals(magic)) throw from.damaged('it has another magic')
  if (from.u32() !== 1 || from.u32() !== recordBytes) throw from.damaged('it has another version')
  const capacity = from.number()
  if (capacity === 0 || capacity > maxCapacity) throw from.damaged('it has an impossible capacity')
  const header = {
    capacity,
    written: from.number(),
    taken: from.number(),
    freed: from.number(),
    lost: from.u64(),
    session: from.u64(),
  }
  from.slice(16)
  if (header.written - header.freed > capacity || header.freed > header.written)
    throw from.damaged('its positions contradict each other')
  return { ...header, lostSeen: from.u64() }
}

/** The bytes of a header field. */
export function encodeField(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt.asUintN(64, value))
  return bytes
}

/**
 * The changes that successive records tell, from this sequence number on. `whole` is false when a record is not what it
 * should be, or is of a kind that this version does not know: then there is more than the changes say.
 */
export function decodeRecords(bytes: Buffer, sequence: number): { changes: Change[]; whole: boolean } {
  const changes: Change[] = []
  let whole = true
  const count = bytes.length / recordBytes
  for (let i = 0; i < count;) {
    const change = decodeRecord(bytes.subarray(i * recordBytes, ++i * recordBytes), sequence + i - 1)
    if (!change) whole = false
    else if (change.kind !== 'names' || change.offset === 0) changes.push(change)
    else {
      const texts = Math.ceil(change.offset / textBytes)
      const name = decodeName(bytes.subarray(i * recordBytes), sequence + i, change.offset)
      if (name) i += texts
      else whole = false
      changes.push({ ...change, offset: 0, ...(name && { name }) })
    }
  }
  return { changes, whole }
}

/** From the text records that follow a names record; undefined when they are not there. */
function decodeName(bytes: Buffer, sequence: number, length: number): Buffer | undefined {
  const texts = Math.ceil(length / textBytes)
  if (length > maxNameBytes || bytes.length < texts * recordBytes) return undefined
  const name = Buffer.alloc(texts * textBytes)
  for (let i = 0; i < texts; i++) {
    const record = bytes.subarray(i * recordBytes, (i + 1) * recordBytes)
    if (record.readBigUInt64LE(0) !== BigInt(sequence + i) || record.readUInt32LE(40) !== textKind)
      return undefined
    record.copy(name, i * textBytes, 8, 8 + textBytes)
  }
  return name.subarray(0, length)
}

/**
 * The record with this sequence number, or undefined when the bytes are not that record (torn, or overwritten).
 * Offsets past exact numbers are cut to the largest one, and lengths then to what is left: the range still reaches the
 * end of any file that exists.
 */
export function decodeRecord(bytes: Buffer, sequence: number): Change | undefined {
  const from = new Reader(bytes, 'change record')
  if (from.u64() !== BigInt(sequence)) return undefined
  const ino = from.u64()
  const parent = from.u64()
  const offset = exact(from.u64())
  const length = Math.min(exact(from.u64()), Number.MAX_SAFE_INTEGER - offset)
  const kind = kinds[from.u32() - 1]
  if (kind === undefined || from.u32() !== 0) return undefined
  return { kind, ino, parent, offset, length }
}

function exact(value: bigint): number {
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value)
}
