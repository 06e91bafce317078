import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { decodeHead } from '../../lib/format/head.js'
import { systemClock } from '../../lib/base/clock.js'
import { change, type Fixture, inoOf, protect, sameAsDirectory } from '../helpers/store.js'

t.setTimeout(280_000)

/** Stands still unless it is moved. */
function stillClock(now: number) {
  const clock = { ...systemClock, now: () => now, advance: (ms: number) => (now += ms) }
  return clock
}

const names = ({ volume }: Fixture) => volume.snapshots().map(({ name }) => name)

async function take(fixture: Fixture, text: string, marks: { tags?: string[]; pinned?: boolean } = {}) {
  writeFileSync(join(fixture.dir, 'file'), text)
  await fixture.volume.recordChanges([
    change('names', 0n, { parent: inoOf(fixture.rootFd) }),
    change('close', inoOf(fixture.rootFd, 'file')),
  ])
  return fixture.volume.snapshot(fixture.rootFd, marks)
}

/** What the list in the sealed nodes says, as a recovery would read it. */
async function listed({ volume, store }: Fixture) {
  const records = await volume.reader(store.blocks).records()
  return records.map(({ time, pinned, tags }) => ({ time, pinned, tags }))
}

t.test('marks and forgetting, here and in the list that partners get', async (t) => {
  const clock = stillClock(Date.UTC(2026, 0, 1))
  const fixture = await protect(t, clock)
  for (let i = 0; i < 5; i++) {
    await take(fixture, `text ${i}`, i === 2 ? { tags: ['b', 'a', 'b'], pinned: true } : {})
    clock.advance(60_000)
  }
  const { volume } = fixture
  const [zero = '', one = '', two = '', three = '', four = ''] = names(fixture)
  t.match(volume.snapshots()[2], { tags: ['a', 'b'], pinned: true })
  await volume.mark([two], { removeTags: ['a'], addTags: ['c'], pinned: false })
  const id = volume.snapshots()[3]?.id.slice(0, 8) ?? ''
  await volume.mark([id, 'latest'], { tags: ['x'], pinned: true })
  const before = decodeHead(volume.head() ?? Buffer.alloc(0)).sequence
  t.same(
    (await volume.forget([one, four])).map(({ name }) => name),
    [one, four],
  )
  t.equal(decodeHead(volume.head() ?? Buffer.alloc(0)).sequence, before + 1)
  const expected = [
    { time: Date.UTC(2026, 0, 1), pinned: false, tags: [] },
    { time: Date.UTC(2026, 0, 1, 0, 2), pinned: false, tags: ['b', 'c'] },
    { time: Date.UTC(2026, 0, 1, 0, 3), pinned: true, tags: ['x'] },
  ]
  t.same(await listed(fixture), expected)
  await fixture.reopen()
  t.same(names(fixture), [zero, two, three])
  t.same(await listed(fixture), expected)
  for (const wrong of [['2026-01-01'], ['nothing'], [zero, one]]) {
    await t.rejects(fixture.volume.forget(wrong), { code: 'notFound' }, wrong.join())
  }
  for (const bad of ['', 'a b', 'a,b', 'x'.repeat(65), '\ud800', 'tab\t']) {
    await t.rejects(fixture.volume.mark([zero], { addTags: [bad] }), { code: 'usage' }, JSON.stringify(bad))
  }
  const many = Array.from({ length: 33 }, (_, i) => `tag${i}`)
  await t.rejects(fixture.volume.mark([zero], { tags: many }), { code: 'usage' })
  t.same(await listed(fixture), expected, 'a refused change changes nothing')
})

t.test(
  'after forgetting the newest, or all, the next snapshot is whole and has a name of its own',
  async (t) => {
    const clock = stillClock(Date.UTC(2026, 0, 1))
    const fixture = await protect(t, clock)
    await take(fixture, 'one')
    const second = await take(fixture, 'two')
    await fixture.volume.forget(['latest'])
    const third = await take(fixture, 'three')
    t.not(third.name, second.name, 'the clock stood still')
    await sameAsDirectory(t, fixture)
    await fixture.volume.forget(names(fixture))
    t.same(await listed(fixture), [])
    await fixture.reopen()
    t.same(names(fixture), [])
    clock.advance(60_000)
    await take(fixture, 'four')
    await sameAsDirectory(t, fixture)
    await fixture.reopen()
    await sameAsDirectory(t, fixture)
    t.equal((await listed(fixture)).length, 1)
  },
)
