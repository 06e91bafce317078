import t from 'tap'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import type { PartnerInfo, Result, Status } from '../../lib/daemon/api.js'
import { parseSize } from '../../lib/cli/output.js'
import { TestHome, until } from '../helpers/cli.js'
import { privateDht } from '../helpers/dht.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'
const gib = 2 ** 30

t.test('sizes as people write them', (t) => {
  for (const [text, bytes] of [
    ['2000', 2000],
    ['1k', 1024],
    ['1.5 MiB', 1_572_864],
    ['20G', 20 * gib],
    ['1TB', 1024 * gib],
  ] as const)
    t.equal(parseSize(text), bytes)
  for (const text of ['', '0', '-1', 'G', '1X', '1 2', '5000P', '1e3'])
    t.throws(() => parseSize(text), { code: 'usage' }, text)
  t.end()
})

t.test('agreements between two daemons: offered, resized, ended, made again', { skip }, async (t) => {
  const dht = await privateDht(t)
  const nodes: TestHome[] = []
  for (const name of ['ann', 'carl']) {
    const home = new TestHome(t)
    const phrase = join(home.base, 'phrase')
    await home.ask(['init', '--name', name, '--bootstrap', dht.address, '--phrase-out', phrase])
    nodes.push(home)
  }
  const [ann, carl] = nodes as [TestHome, TestHome]
  const partner = async (home: TestHome) =>
    (await home.ask<{ partners: PartnerInfo[] }>(['partners'])).partners[0]
  t.match(await ann.kith(['agreement', 'show', 'carl']), { code: exitCodes.notFound })

  t.match(await carl.ask(['offer', '50G', '--each', '20G']), {
    bytes: 50 * gib,
    each: 20 * gib,
    want: null,
    held: 0,
  })
  await ann.ask(['circle', 'create', 'friends'])
  await carl.ask(['join', (await ann.ask<{ code: string }>(['invite'])).code])
  await until(async () => (await partner(ann))?.agreement?.state === 'active')
  await until(async () => (await partner(carl))?.agreement?.state === 'active')
  t.match(await ann.ask(['agreement', 'show', 'carl']), {
    agreement: { number: 1, until: null, ours: { holds: 100 * gib }, theirs: { holds: 20 * gib } },
  })

  t.comment('what is offered reaches the partners at once')
  await carl.ask(['offer', '--each', 'all', '--want', '30G'])
  await until(async () => (await partner(ann))?.agreement?.theirs.holds === 50 * gib)
  t.match(await partner(ann), { agreement: { ours: { holds: 30 * gib } } })
  t.match(await carl.ask<Status>(['status']), { vault: { bytesQuota: 50 * gib } })
  const bad = await carl.kith(['offer', 'lots'])
  t.match(bad, {
    code: exitCodes.usage,
    stderr: /^kith: bad size 'lots'; write it like 500M, 20G or 1.5T\n$/,
  })

  t.comment('how fast it is sent')
  t.match(await ann.ask(['away']), { until: null, partners: [] })
  const away = await ann.ask<{ until: number }>(['away', '--until', '3d'])
  t.match(await ann.ask(['status']), { awayUntil: away.until, audits: { bytesPerDay: 100_000 } })
  t.match(await ann.kith(['away', '--until', '2020-01-01']), { code: exitCodes.usage, stderr: /in the past/ })
  t.match(await ann.kith(['away', '--until', '2031-02-30']), { code: exitCodes.usage, stderr: /there is no/ })
  t.match(await ann.kith(['away', '--until', '91d']), { code: exitCodes.usage, stderr: /at most 90 days/ })
  t.match(await ann.kith(['away', '--until', 'soon']), {
    code: exitCodes.usage,
    stderr: /36h, 10d or 2w, not 'soon'/,
  })
  t.match(await ann.kith(['away', '--back']), { stdout: /^Not announced to be away/ })
  t.match(await ann.ask(['limit']), { up: null, hours: null })
  t.match(await ann.ask(['limit', '--up', '4M', '--hours', 'mon-sun 0-24']), { up: 2 ** 22, upNow: 2 ** 22 })
  t.match(await ann.kith(['limit']), { stdout: /at most 4.0 MiB a second in all, mon-sun 0-24 / })
  t.match(await ann.kith(['limit', '--hours', 'now']), { code: exitCodes.usage, stderr: /bad hours 'now'/ })
  t.match(await ann.kith(['limit', '--up', '1']), { code: exitCodes.usage, stderr: /at least 1K a second/ })

  t.comment('a resize')
  const dir = ann.dir('protected')
  await ann.ask(['mount', dir])
  writeFileSync(join(dir, 'a'), Buffer.alloc(500_000, 'some text '))
  await ann.ask(['snapshot'])
  await ann.ask(['sync', '--timeout', '120'])
  const resized = await ann.ask<Result<'agreementRenew'>>([
    'agreement',
    'resize',
    'carl',
    '--want',
    '2G',
    '--hold',
    '3G',
  ])
  t.match(resized, {
    told: true,
    partner: { agreement: { ours: { holds: 3 * gib }, theirs: { holds: 2 * gib } } },
  })
  t.match(await ann.kith(['agreement', 'resize', 'carl']), { code: exitCodes.usage })

  t.comment('an end')
  t.match(await carl.kith(['agreement', 'end', 'ann']), {
    code: exitCodes.usage,
    stderr: /30 days more.*\n.*give --yes/,
  })
  t.match(await carl.ask(['agreement', 'end', 'ann', '--yes']), { told: true })
  await until(async () => (await partner(ann))?.agreement?.state === 'ended')
  const held = (await partner(carl))?.bytesHeldForIt ?? 0
  t.ok(held > 0, 'kept through the notice')
  writeFileSync(join(dir, 'b'), 'b'.repeat(100_000))
  await ann.ask(['snapshot'])
  t.match(await ann.kith(['sync', '--timeout', '2']), { code: exitCodes.timeout })
  t.equal((await partner(carl))?.bytesHeldForIt, held, 'and nothing new is taken')
  const status = await ann.ask<Status>(['status'])
  t.match(status.volumes[0]?.partners[0]?.faults, [/it ended the agreement/])
  for (const args of [['partners'], ['agreement', 'show', 'carl'], ['offer']]) {
    const { code, stdout } = await ann.kith(args)
    t.equal(code, 0)
    t.notMatch(stdout, /undefined|NaN|\[object/, args.join(' '))
    if (args[0] !== 'offer') t.match(stdout, /ended by it .*its data here goes after 30 days/)
  }

  t.comment('off line: told when it is back')
  await carl.kith(['stop'])
  await until(async () => (await partner(ann))?.online === false)
  t.match(await ann.ask(['agreement', 'renew', 'carl']), { told: false })
  t.match(await carl.ask(['agreement', 'renew', 'ann']), {})
  await until(async () => (await partner(ann))?.agreement?.state === 'active')
  await ann.ask(['sync', '--timeout', '120'])
  t.ok(((await partner(carl))?.bytesHeldForIt ?? 0) > held, 'and the backup goes on')
})
