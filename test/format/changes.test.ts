import t from 'tap'
import { KithError } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import {
  decodeHeader,
  decodeRecord,
  decodeRecords,
  encodeField,
  recordBytes,
} from '../../lib/format/changes.js'

/** The header of a log with 11 records written, 9 taken, 7 freed, 2 lost. */
const goldenHeader = Buffer.from(
  '4b4954484c4f4731' +
    '0100000030000000' +
    '0000010000000000' +
    '0b00000000000000' +
    '0900000000000000' +
    '0700000000000000' +
    '0200000000000000' +
    '8877665544332211' +
    'f8ffffffffffffff' +
    '0100000000000000' +
    '0100000000000000',
  'hex',
)
const goldenRecord = Buffer.from(
  '0b00000000000000' + // sequence
    'efcdab8967452301' + // ino
    '0000000000000000' +
    '0010000000000000' + // offset
    '0000010000000000' + // length
    '0100000000000000', // data
  'hex',
)

t.test('the header of version 1', async (t) => {
  t.same(decodeHeader(goldenHeader), {
    capacity: 65_536,
    written: 11,
    taken: 9,
    freed: 7,
    lost: 2n,
    session: 0x1122334455667788n,
    lostSeen: 1n,
  })
  t.same(encodeField(~7n), goldenHeader.subarray(64, 72))
})

t.test('a record of version 1', async (t) => {
  t.same(decodeRecord(goldenRecord, 11), {
    kind: 'data',
    ino: 0x0123456789abcdefn,
    parent: 0n,
    offset: 4096,
    length: 65_536,
  })
  t.equal(decodeRecord(goldenRecord, 12), undefined, 'of another number')
  const unknown = Buffer.from(goldenRecord)
  unknown.writeUInt32LE(7, 40)
  t.equal(decodeRecord(unknown, 11), undefined, 'of an unknown kind')
})

t.test('a name in the records that follow', async (t) => {
  const record = (sequence: number, kind: number, offset: number) => {
    const bytes = Buffer.from(goldenRecord)
    bytes.writeBigUInt64LE(BigInt(sequence))
    bytes.writeBigUInt64LE(BigInt(offset), 24)
    bytes.writeUInt32LE(kind, 40)
    return bytes
  }
  const text = (sequence: number, part: string) => {
    const bytes = record(sequence, 7, 0)
    bytes.fill(0, 8, 40).write(part, 8)
    return bytes
  }
  const name = 'a name of more than thirty-two bytes'
  const parts = [text(12, name.slice(0, 32)), text(13, name.slice(32))] as const
  const [named, next] = [record(11, 4, name.length), record(14, 1, 5)]
  const read = (...records: Buffer[]) => {
    const { changes, whole } = decodeRecords(Buffer.concat(records), 11)
    return [whole, ...changes.map((change) => `${change.kind} ${String(change.name)} ${change.offset}`)]
  }
  t.same(read(named, ...parts, next), [true, `names ${name} 0`, 'data undefined 5'])
  t.same(read(record(11, 4, 0), record(12, 1, 5)), [true, 'names undefined 0', 'data undefined 5'])
  t.same(read(named, parts[0]), [false, 'names undefined 0'], 'its end is missing')
  t.same(read(named, parts[0], record(13, 1, 5)), [false, 'names undefined 0', 'data undefined 5'])
  t.same(read(record(11, 4, 256), ...parts), [false, 'names undefined 0'], 'longer than names are')
  t.same(read(text(11, 'stray')), [false])
})

t.test('ranges past exact numbers still reach the end of every file', async (t) => {
  const far = Buffer.from(goldenRecord)
  far.writeBigUInt64LE((1n << 64n) - 1n, 32)
  const change = decodeRecord(far, 11)
  t.equal((change?.offset ?? 0) + (change?.length ?? 0), Number.MAX_SAFE_INTEGER)
})

t.test('any bytes are a header, or a KithError', async (t) => {
  const random = seeded(1)
  for (let round = 0; round < 20_000; round++) {
    const bytes = Buffer.from(goldenHeader).subarray(0, random() % 8 === 0 ? random() % 88 : 88)
    for (let flips = random() % 4; flips >= 0 && bytes.length > 0; flips--)
      bytes[random() % bytes.length] = random() & 0xff
    try {
      const { written, freed, capacity } = decodeHeader(bytes)
      if (written - freed > capacity || freed > written) t.fail('positions contradict each other')
    } catch (error) {
      if (!(error instanceof KithError)) throw error
    }
    const record = Buffer.from(goldenRecord)
    record[random() % recordBytes] = random() & 0xff
    const change = decodeRecord(record, 11)
    if (change && !Number.isSafeInteger(change.offset + change.length)) t.fail('a range is no exact number')
  }
  t.pass('20,000 seeded mutations')
})
