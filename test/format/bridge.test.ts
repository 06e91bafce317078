import t from 'tap'
import { KithError } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import {
  decodeAnswer,
  decodeServerHello,
  decodeStop,
  encodeAnswer,
  encodeDaemonHello,
  encodeFrame,
  FrameSplitter,
  frameTypes,
  maxPayloadBytes,
  readPath,
  writeAttributes,
  type Frame,
} from '../../lib/format/bridge.js'
import { Reader, Writer } from '../../lib/format/bytes.js'

t.test('frames of version 1', async (t) => {
  t.equal(
    encodeDaemonHello().toString('hex'),
    '08000000' + '0100' + '0000' + '00'.repeat(8) + '01000000' + '00000000',
  )
  t.equal(
    Buffer.concat(encodeAnswer(0x0102n, 2, Buffer.from('ab'))).toString('hex'),
    '0a000000' + '0600' + '0000' + '0201000000000000' + '02000000' + '00000000' + '6162',
  )
  const hello = Buffer.from(
    '01000000' +
      '2a000000' +
      '0807060504030201' +
      '0300000000000000' +
      '0400000000000000' +
      '07000000' +
      '00000000',
    'hex',
  )
  t.same(decodeServerHello(hello), {
    version: 1,
    pid: 42,
    session: 0x0102030405060708n,
    rootDev: 3n,
    rootIno: 4n,
    rootFd: 7,
  })
  t.same(decodeStop(Buffer.from('02000000' + '0100' + '61' + '0300' + '622f63', 'hex')).map(String), [
    'a',
    'b/c',
  ])
  t.same(
    readPath(new Reader(Buffer.from('0200' + '0100' + '61' + '0100' + '62', 'hex'), 'path')).map(String),
    ['a', 'b'],
  )
})

t.test('attributes of version 1, before and after 1970', async (t) => {
  const attributes = {
    ino: 1n,
    size: 2,
    blocks: 3,
    mode: 0o100644,
    nlink: 4,
    uid: 5,
    gid: 6,
    xattrs: 7,
    rdev: 8n,
  }
  const encode = (mtimeNs: bigint) => {
    const out = new Writer()
    writeAttributes(out, { ...attributes, mtimeNs })
    return out.finish()
  }
  const bytes = encode(1_500_000_002n)
  t.equal(
    bytes.toString('hex'),
    '0100000000000000' +
      '0200000000000000' +
      '0300000000000000' +
      '0100000000000000' +
      '0265cd1d' +
      'a4810000' +
      '04000000' +
      '05000000' +
      '06000000' +
      '07000000' +
      '0800000000000000' +
      '0000000000000000',
  )
  const early = encode(-1n)
  t.equal(early.readBigInt64LE(24), -1n)
  t.equal(early.readUInt32LE(32), 999_999_999)
})

t.test('a stream is cut the same way however it arrives', async (t) => {
  const random = seeded(2)
  const frames: Frame[] = []
  for (let i = 0; i < 200; i++) {
    const payload = Buffer.alloc(random() % 40 === 0 ? 100_000 : random() % 50, i)
    frames.push({ type: 1 + (random() % 20), id: BigInt(i), payload })
  }
  const stream = Buffer.concat(frames.map((frame) => encodeFrame(frame.type, frame.id, frame.payload)))
  for (let round = 0; round < 20; round++) {
    const splitter = new FrameSplitter()
    const got: Frame[] = []
    for (let at = 0; at < stream.length;) {
      const length = 1 + (random() % (round < 10 ? 40 : 30_000))
      got.push(...splitter.push(stream.subarray(at, at + length)))
      at += length
    }
    t.same(got, frames)
  }
})

t.test('a frame beyond its bound is refused before its bytes come', async (t) => {
  const header = encodeFrame(frameTypes.wake, 0n)
  header.writeUInt32LE(maxPayloadBytes + 1, 0)
  t.throws(() => new FrameSplitter().push(header), { code: 'protocol' })
  t.throws(() => encodeFrame(frameTypes.answer, 1n, Buffer.alloc(maxPayloadBytes + 1)), { code: 'protocol' })
})

t.test('any bytes are frames, or a KithError', async (t) => {
  const random = seeded(3)
  const whole = [
    ...encodeAnswer(1n, 0, Buffer.alloc(20)),
    encodeFrame(frameTypes.hello, 0n, Buffer.alloc(40)),
  ]
  for (let round = 0; round < 10_000; round++) {
    const bytes = Buffer.concat(whole)
    for (let flips = random() % 6; flips >= 0; flips--) bytes[random() % bytes.length] = random() & 0xff
    try {
      for (const { payload } of new FrameSplitter().push(bytes)) {
        for (const decode of [
          decodeAnswer,
          decodeServerHello,
          decodeStop,
          (of: Buffer) => readPath(new Reader(of, 'path')),
        ]) {
          try {
            decode(payload)
          } catch (error) {
            if (!(error instanceof KithError)) throw error
          }
        }
      }
    } catch (error) {
      if (!(error instanceof KithError)) throw error
    }
  }
  t.pass('10,000 seeded mutations')
})
