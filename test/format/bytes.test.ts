import t from 'tap'
import { Reader, Writer } from '../../lib/format/bytes.js'

const damaged = { code: 'damaged' }

t.test('what is written is read, little endian', (t) => {
  const bytes = new Writer(1)
    .u8(255)
    .u16(0x1234)
    .u32(0xfedcba98)
    .u64(2n ** 64n - 1n)
    .i64(-(2n ** 63n))
    .number(2 ** 53 - 1)
    .raw(Buffer.from('raw'))
    .zero(3)
    .finish()
  t.equal(bytes.toString('hex', 0, 7), 'ff341298badcfe')
  const from = new Reader(bytes, 'record')
  t.equal(from.u8(), 255)
  t.equal(from.u16(), 0x1234)
  t.equal(from.u32(), 0xfedcba98)
  t.equal(from.u64(), 2n ** 64n - 1n)
  t.equal(from.i64(), -(2n ** 63n))
  t.equal(from.number(), 2 ** 53 - 1)
  t.equal(from.slice(3).toString(), 'raw')
  from.zero(3)
  from.end()
  t.end()
})

t.test('every read past the end is refused', (t) => {
  const reads: ((from: Reader) => unknown)[] = [
    (from) => from.u8(),
    (from) => from.u16(),
    (from) => from.u32(),
    (from) => from.u64(),
    (from) => from.i64(),
    (from) => from.number(),
    (from) => from.slice(1),
    (from) => from.slice(2 ** 40),
    (from) => from.zero(1),
  ]
  for (const read of reads) t.throws(() => read(new Reader(Buffer.alloc(0), 'record')), damaged)
  t.end()
})

t.test('numbers that are not exact, reserved bytes, and what follows the end', (t) => {
  const inexact = Buffer.alloc(8)
  inexact.writeBigUInt64LE(2n ** 53n)
  t.throws(() => new Reader(inexact, 'record').number(), damaged)
  t.throws(() => new Reader(Buffer.from([0, 1]), 'record').zero(2), damaged)
  t.throws(() => new Reader(Buffer.alloc(1), 'record').end(), /a record is damaged: bytes follow its end/)
  t.throws(() => new Writer().number(-1))
  t.throws(() => new Writer().number(2 ** 53))
  t.end()
})

t.test('what was written can be filled in, also after the writer grew', (t) => {
  const out = new Writer(4).u32(0).u32(7)
  out.written(0, 4).writeUInt32LE(5)
  out.zero(100)
  out.written(4, 4).writeUInt32LE(6)
  t.throws(() => out.written(105, 4))
  t.same([...out.finish().subarray(0, 8)], [5, 0, 0, 0, 6, 0, 0, 0])
  t.end()
})
