// Tags, pins, forget and rules through the built command, on a mounted directory.
import t from 'tap'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import type { Result, SnapshotRow } from '../../lib/daemon/api.js'
import { TestHome, until } from '../helpers/cli.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'

t.test('what is kept', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  const taken: SnapshotRow[] = []
  const take = async (...options: string[]) => {
    writeFileSync(join(dir, 'file'), `version ${taken.length}`)
    taken.push(await home.ask<SnapshotRow>(['snapshot', dir, ...options]))
    return taken.at(-1)?.name ?? ''
  }
  const list = async () => (await home.ask<SnapshotRow[]>(['snapshots'])).map(({ name }) => name)
  const first = await take('--tag', 'release', '--tag', 'v1')
  const second = await take()
  const third = await take('--pin')
  const fourth = await take()
  const fifth = await take()

  const marked = await home.kith(['tag', first, second, '--add', 'old', '--remove', 'v1'])
  t.equal(marked.stdout, `${first}: old, release\n${second}: old\n`)
  t.match((await home.kith(['snapshots'])).stdout, new RegExp(`${third} .* pinned\n`))
  t.same(
    (await home.ask<SnapshotRow[]>(['snapshots', '--tag', 'release'])).map(({ name }) => name),
    [first],
  )

  const plan = await home.ask<Result<'forget'>>(['forget', '--keep-last', '1', '--dry-run'])
  t.same(
    plan.snapshots.map(({ kept, reasons }) => (kept ? reasons.join() : '')),
    ['', '', 'pinned', '', 'newest,last'],
  )
  t.same(await list(), [first, second, third, fourth, fifth], 'a dry run changes nothing')
  for (const args of [
    ['forget'],
    ['forget', first, '--keep-last', '1'],
    ['forget', '--keep-last', 'x'],
    ['tag', first],
  ]) {
    t.equal((await home.kith(args)).code, exitCodes.usage, args.join(' '))
  }
  const pinned = await home.kith(['forget', third, '--dir', dir])
  t.equal(pinned.code, exitCodes.denied)
  t.match(pinned.stderr, /is pinned: unpin it first/)

  const gone = await home.kith(['forget', '--keep-last', '1', '--keep-tag', 'release'])
  t.match(gone.stdout, new RegExp(`keep +${first} +.* tag release\n`))
  t.match(gone.stdout, /2 snapshots of 5 forgotten\.\n$/)
  t.same(await list(), [first, third, fifth])
  t.notOk(readdirSync(join(dir, '.snapshots')).includes(second), 'it left .snapshots, too')

  await t.test('rules of the volume are applied after its snapshots', async (t) => {
    t.match((await home.kith(['policy'])).stdout, /keeps every snapshot/)
    t.match(
      (await home.kith(['policy', '--keep-last', '2', '--keep-within', '1h'])).stdout,
      /last 2, within 1 hours/,
    )
    t.equal((await home.kith(['policy', '--keep-last', '0'])).code, exitCodes.usage)
    await home.ask(['policy', dir, '--keep-last', '2'])
    t.equal((await list()).length, 3, 'setting them forgets nothing')
    await home.ask(['unpin', third])
    const sixth = await take()
    await until(async () => (await list()).length === 2)
    t.same(await list(), [fifth, sixth])
    await home.ask(['policy', '--none'])
    await take()
  })
  await t.test('prune', async (t) => {
    const plan = await home.ask<Result<'prune'>>(['prune', '--dry-run'])
    t.ok(plan.dryRun && plan.blocks > 0 && plan.bytes > 0)
    const done = await home.kith(['prune'])
    t.match(
      done.stdout,
      new RegExp(`^${plan.blocks} blocks, .* removed; .* stay; .* given back to the disk\\.\n$`),
    )
    t.match(await home.ask<Result<'prune'>>(['prune']), { blocks: 0, bytes: 0, blocksKept: plan.blocksKept })
    t.equal((await home.kith(['cat', 'latest:file'])).stdout, `version ${taken.length - 1}`)
  })
  const last = await list()
  await home.ask(['forget', ...last])
  // The daemon may take one by itself, since there is none.
  const allWent = async () => !(await list()).some((name) => last.includes(name))
  t.ok(await allWent(), 'named, all of them may go')
  const name = await take()
  t.ok((await list()).includes(name))
  t.ok(await allWent())
})
