import t from 'tap'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import type { Result, SnapshotRow } from '../../lib/daemon/api.js'
import { TestHome, until } from '../helpers/cli.js'
import { privateDht } from '../helpers/dht.js'
import { freeze } from '../helpers/freeze.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'

t.test('a mount outlives its daemon, stopped in order, frozen or killed', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  t.match(await home.ask(['mount', dir]), { dir, continued: false, recovered: false })
  writeFileSync(join(dir, 'a'), 'a')
  await home.kith(['stop'])
  writeFileSync(join(dir, 'b'), 'written while no daemon runs')
  t.equal((await home.volume())?.state, 'mounted', 'the next one takes it over')

  const frozen = home.daemonPid() as number
  await freeze(frozen)
  writeFileSync(join(dir, 'c'), 'written while the daemon is frozen')
  t.equal(readFileSync(join(dir, 'c'), 'utf8'), 'written while the daemon is frozen')
  process.kill(frozen, 'SIGCONT')

  process.kill(frozen, 'SIGKILL')
  await until(() => home.daemonPid() === undefined)
  writeFileSync(join(dir, 'd'), 'written while the daemon is dead')
  const { name, files } = await home.ask<SnapshotRow>(['snapshot'])
  t.equal(files, 4)
  t.same(readdirSync(join(dir, '.snapshots', name)), ['a', 'b', 'c', 'd'])
  t.same(readdirSync(join(dir, '.snapshots', 'latest')), ['a', 'b', 'c', 'd'])
  t.equal(home.fusePids().length, 1, 'one kith-fuse all the while')
  t.same(await home.ask(['unmount', dir]), { dir, stillOpen: [], holders: [] })
  await until(() => home.fusePids().length === 0)
  t.same(readdirSync(dir), ['a', 'b', 'c', 'd'])
})

t.test('recovered, recovered again, and protected again', { skip }, async (t) => {
  const dht = await privateDht(t)
  const owner = new TestHome(t)
  const partner = new TestHome(t)
  const phrase = join(partner.base, 'phrase')
  const bootstrap = ['--bootstrap', dht.address]
  await owner.ask(['init', '--phrase-out', phrase, ...bootstrap])
  await partner.ask(['init', ...bootstrap])
  await owner.ask(['circle', 'create', 'two'])
  const { code } = await owner.ask<{ code: string }>(['invite'])
  await partner.ask(['join', code])
  const dir = owner.dir('protected')
  await owner.ask(['mount', dir])
  writeFileSync(join(dir, 'a'), 'a'.repeat(300_000))
  const first = await owner.ask<SnapshotRow>(['snapshot'])
  await owner.ask(['sync', '--timeout', '120'])
  await owner.ask(['unmount', dir])
  await owner.kith(['stop'])

  const fresh = new TestHome(t)
  const to = fresh.dir('back')
  writeFileSync(join(to, 'a'), 'in the way')
  const recover = ['recover', '--phrase-file', phrase, '--to', to, ...bootstrap]
  t.match(await fresh.kith(recover), { code: exitCodes.exists, stderr: /a exists already/ })
  t.equal(readFileSync(join(to, 'a'), 'utf8'), 'in the way')
  const done = await fresh.ask<Result<'recover'>>([...recover, '--overwrite', 'always'])
  t.match(done, { volumes: [{ snapshot: first.name, to, files: 1, bytes: 300_000 }] })
  t.same(done.faults, [])
  t.equal(readFileSync(join(to, 'a'), 'utf8'), 'a'.repeat(300_000))
  t.match(await fresh.ask([...recover, '--overwrite', 'if-changed']), { volumes: [{ skipped: 1 }] })

  t.match(await fresh.ask(['mount', to]), { dir: to, continued: true })
  t.equal(readFileSync(join(to, '.snapshots', first.name, 'a'), 'utf8'), 'a'.repeat(300_000))
  writeFileSync(join(to, 'b'), 'b')
  const second = await fresh.ask<SnapshotRow>(['snapshot'])
  t.ok(second.bytesNew < 3000, `only what is new: ${second.bytesNew} bytes`)
  t.match(await fresh.ask(['snapshots']), [{ name: first.name }, { name: second.name }])
  const synced = await fresh.ask<Result<'sync'>>(['sync', '--timeout', '120'])
  t.equal(synced.volumes[0]?.partners.length, 1, 'a member of the circle again')
})
