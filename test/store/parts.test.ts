import t from 'tap'
import { encodings } from '../../lib/blocks/database.js'
import { encodeHeader } from '../../lib/blocks/segments.js'
import { seeded } from '../../lib/base/random.js'
import { bytesOfExtent } from '../../lib/format/entry.js'
import { chunkId, chunkKey, openChunk, sealChunk, type ChunkRef } from '../../lib/format/seal.js'
import { Intake } from '../../lib/store/intake.js'
import { packEncoding, partEncoding, partId } from '../../lib/store/parts.js'
import { seededBytes } from '../helpers/bytes.js'
import { protect, type Fixture } from '../helpers/store.js'

const random = seeded(11)

function intakeOf({ volume, store }: Fixture): Intake {
  const { state, keys } = volume.checked
  return new Intake(store.blocks, state, keys.node, () => undefined)
}

/** A sealed chunk, as a worker thread sends it. */
function takeIn(intake: Intake, { key, name }: ChunkRef, bytes: Buffer): Promise<void> {
  return intake.addChunks(1, Buffer.concat([chunkId(key), encodeHeader(name, bytes.length), bytes]))
}

/** A pack of files of these lengths, as the store takes it in. */
function pack({ volume }: Fixture, lengths: readonly number[]) {
  const { convergence } = volume.keys
  const contents = lengths.map((bytes) => seededBytes(random, bytes))
  const plain = Buffer.concat(contents)
  const sealed = sealChunk(chunkKey(convergence, plain), plain)
  let end = 0
  const files = contents.map((content) => {
    const offset = end
    end += content.length
    return { id: chunkId(chunkKey(convergence, content)), offset, bytes: content.length }
  })
  return { ...sealed, contents, files }
}

t.test('small files are found by their content, also after the next start', async (t) => {
  const fixture = await protect(t)
  const { ref, bytes, contents, files } = pack(fixture, [600, 700, 65_536, 601])
  const intake = intakeOf(fixture)
  await takeIn(intake, ref, bytes)
  intake.indexPack(ref, files)
  const found = (from: Intake) =>
    files.map(({ id, bytes }, i) => {
      const part = from.knownPart(id, bytes)
      return part && bytesOfExtent(part, openChunk(part.chunk, sealedOf())).equals(contents[i] as Buffer)
    })
  const sealedOf = () => bytes
  t.same(found(intake), [true, true, true, true], 'at once')
  t.same(found(intakeOf(fixture)), [undefined, undefined, undefined, undefined], 'not by others')
  await intake.commit()
  t.same(found(intake), [true, true, true, true])
  await fixture.reopen()
  t.same(found(intakeOf(fixture)), [true, true, true, true])
  t.equal(intakeOf(fixture).knownPart(files[0]?.id as Buffer, 601), undefined, 'of another length')
  await fixture.store.blocks.takeOut([ref.name], () => undefined)
  t.same(found(intakeOf(fixture)), [undefined, undefined, undefined, undefined], 'the block is gone')
})

t.test('no row tells the key of a pack', async (t) => {
  const fixture = await protect(t)
  const { ref, bytes, files } = pack(fixture, [1000, 1000])
  const intake = intakeOf(fixture)
  await takeIn(intake, ref, bytes)
  intake.indexPack(ref, files)
  await intake.commit()
  const { state } = fixture.volume.checked
  for (const { key, value } of [...state.packs.range()])
    t.notOk(Buffer.concat([key, packEncoding.encode(value)]).includes(ref.key))
  for (const { key, value } of [...state.parts.range()]) {
    t.equal(key.length + partEncoding.encode(value).length, 34, 'short')
    t.notOk(files.some(({ id }) => id.equals(key)))
  }
})

t.test('two packs whose names begin alike: the files of the first stay found', async (t) => {
  const fixture = await protect(t)
  const [a, b] = [pack(fixture, [600, 700]), pack(fixture, [800, 900])]
  const intake = intakeOf(fixture)
  const alike = { ...b.ref, name: Buffer.concat([a.ref.name.subarray(0, 8), b.ref.name.subarray(8)]) }
  await takeIn(intake, a.ref, a.bytes)
  intake.indexPack(a.ref, a.files)
  intake.indexPack(alike, b.files)
  await intake.commit()
  intake.indexPack(alike, b.files)
  for (const { id, bytes } of a.files) t.ok(intake.knownPart(id, bytes)?.chunk.name.equals(a.ref.name))
  for (const { id, bytes } of b.files) t.equal(intake.knownPart(id, bytes), undefined)
})

t.test(
  'a flipped bit in a row: the file is not found, check tells it, repair takes the row away',
  async (t) => {
    const fixture = await protect(t)
    const { ref, bytes, files } = pack(fixture, [600, 700, 800])
    const intake = intakeOf(fixture)
    await takeIn(intake, ref, bytes)
    intake.indexPack(ref, files)
    await intake.commit()
    const { db } = fixture.store
    const rowsOf = (table: string) =>
      db.table(`${fixture.volume.id.toString('hex')}/${table}`, encodings.bytes, encodings.bytes)
    const problems = async () => (await fixture.store.check()).volumes[0]?.problems
    const known = () => files.map(({ id, bytes }) => intake.knownPart(id, bytes) !== undefined)
    t.same(await problems(), [])
    for (const name of ['parts', 'packs']) {
      const table = rowsOf(name)
      const first = name === 'parts' ? partId(files[0]?.id as Buffer) : ref.name.subarray(0, 8)
      const good = Buffer.from(table.get(first) as Buffer)
      const expected = name === 'parts' ? [false, true, true] : [false, false, false]
      for (let bit = 0; bit < good.length * 8; bit++) {
        const bad = Buffer.from(good)
        bad[bit >> 3] = (bad[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        await db.transaction(() => table.put(first, bad))
        const now = known()
        if (now.some((is, i) => is !== expected[i])) t.fail(`${name}: bit ${bit}: ${String(now)}`)
      }
      t.same(await problems(), ['the chunk index has 1 wrong rows'])
      const repaired = await fixture.store.repair({ dryRun: false })
      t.equal(repaired.rows, 1)
      t.same(await problems(), [])
      intake.indexPack(ref, files)
      await intake.commit()
      t.same(known(), [true, true, true])
    }
  },
)
