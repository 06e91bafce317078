import t from 'tap'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import type { PartnerInfo, Status } from '../../lib/daemon/api.js'
import { kithMain, TestHome, until } from '../helpers/cli.js'
import { privateDht } from '../helpers/dht.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'

type Sync = { volumes: { dir: string; snapshot: string; partners: { name: string; bytesHeld: number }[] }[] }

async function node(t: Parameters<typeof privateDht>[0], bootstrap: string, name: string): Promise<TestHome> {
  const home = new TestHome(t)
  await home.ask([
    'init',
    '--name',
    name,
    '--bootstrap',
    bootstrap,
    '--phrase-out',
    join(home.base, 'phrase'),
  ])
  return home
}

async function befriend(host: TestHome, guest: TestHome, circle: string): Promise<void> {
  const { code } = await host.ask<{ code: string }>(['invite', '--circle', circle])
  await guest.ask(['join', code])
}

const partners = async (home: TestHome) =>
  (await home.ask<{ partners: PartnerInfo[] }>(['partners'])).partners

t.test('two circles of daemons on a private DHT', { skip }, async (t) => {
  const dht = await privateDht(t)
  const owner = await node(t, dht.address, 'owner')
  const left = await node(t, dht.address, 'left')
  const right = await node(t, dht.address, 'right')
  for (const name of ['left side', 'right side']) await owner.ask(['circle', 'create', name])
  t.match(await owner.kith(['invite']), { code: exitCodes.usage }, 'which circle?')
  await befriend(owner, left, 'left side')
  await befriend(owner, right, 'right side')

  const dir = owner.dir('protected')
  await owner.ask(['mount', dir])
  writeFileSync(join(dir, 'a'), 'a'.repeat(100_000))
  const { name } = await owner.ask<{ name: string }>(['snapshot'])
  const { volumes } = await owner.ask<Sync>(['sync', '--timeout', '120'])
  t.match(volumes, [{ dir, snapshot: name }])
  t.same(volumes[0]?.partners.map((partner) => partner.name).sort(), ['left', 'right'])

  t.same(
    (await partners(left)).map((partner) => partner.name),
    ['owner'],
    'circles do not mix',
  )
  t.same(
    (await partners(right)).map((partner) => partner.name),
    ['owner'],
  )
  const [toLeft] = await partners(left)
  t.ok((toLeft?.bytesHeldForIt ?? 0) > 0, 'left holds for the owner')
  const status = await owner.ask<Status>(['status'])
  t.match(status, {
    name: 'owner',
    network: { running: true, bootstrap: [dht.address], circles: ['left side', 'right side'] },
    volumes: [{ dir, mounted: true, bytesPending: 0, problems: [] }],
  })

  const audit = await owner.ask<{ partners: { asked: number; proven: number; faults: [] }[] }>([
    'audit',
    '--full',
  ])
  t.equal(audit.partners.length, 2)
  for (const { asked, proven, faults } of audit.partners) {
    t.ok(asked > 0 && asked === proven)
    t.same(faults, [])
  }

  t.comment('one partner is off line')
  await left.kith(['stop'])
  await until(async () => (await partners(owner)).some((partner) => !partner.online), 60)
  writeFileSync(join(dir, 'b'), 'b'.repeat(100_000))
  await owner.ask(['snapshot'])
  const late = await owner.kith(['sync', '--timeout', '2'])
  t.equal(late.code, exitCodes.timeout)
  t.match(late.stderr, /^kith: not yet held by left; it goes on in the background\n$/)
  await left.ask(['status'])
  await owner.ask(['sync', '--timeout', '120'])

  t.comment('text for people')
  for (const args of [['status'], ['partners'], ['snapshots']]) {
    const { code, stdout } = await owner.kith(args)
    t.equal(code, 0)
    t.notMatch(stdout, /undefined|NaN|\[object/, args[0] ?? '')
    t.match(stdout, args[0] === 'snapshots' ? name : 'left')
  }

  const { stdout: why } = await owner.kith(['partners', '--why'])
  t.match(why, /left \([0-9a-f]{12}\)\n {2}invited by you\n {2}holds 100 % of your data\n/)
  t.notMatch(why, /undefined|NaN|\[object/)

  t.comment('decommission asks on the terminal')
  const answer = (word: string) => {
    const command = `${process.execPath} ${kithMain} --home ${owner.home} unmount ${dir} --decommission`
    try {
      return {
        code: 0,
        out: execFileSync('script', ['-qec', command, '/dev/null'], { input: `${word}\n` }).toString(),
      }
    } catch (error) {
      const { status, stdout } = error as { status: number; stdout: Buffer }
      return { code: status, out: stdout.toString() }
    }
  }
  t.match(await owner.kith(['unmount', dir, '--decommission']), {
    code: exitCodes.usage,
    stderr: /give --yes/,
  })
  const no = answer('no')
  t.equal(no.code, exitCodes.cancelled)
  t.match(no.out, /What goes, for good:[^]*left: [^]*Type yes to go on:[^]*nothing was changed/)
  t.equal((await owner.ask<unknown[]>(['snapshots'])).length, 2)
  const yes = answer('yes')
  t.equal(yes.code, 0, yes.out)
  t.match(yes.out, /left released .*\r?\n[^]*right released/)
  for (const home of [left, right]) t.equal((await partners(home))[0]?.bytesHeldForIt, 0)
  t.equal(readFileSync(join(dir, 'b'), 'utf8').length, 100_000, 'the files stay')
  t.same((await owner.ask<Status>(['status'])).volumes, [])
})
