// check through the built command, on a mounted directory.
import t from 'tap'
import { readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import type { Result } from '../../lib/daemon/api.js'
import { seededBytes } from '../helpers/bytes.js'
import { TestHome } from '../helpers/cli.js'
import { flipBit } from '../helpers/damage.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'

t.test('check, and what it says of damage', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  writeFileSync(join(dir, 'first'), seededBytes(seeded(1), 400_000))
  await home.ask(['snapshot'])
  writeFileSync(join(dir, 'second\u001b'), seededBytes(seeded(2), 400_000))
  await home.ask(['snapshot'])

  const good = await home.kith(['check'])
  t.equal(good.code, 0, good.stderr)
  t.match(good.stdout, /: 2 snapshots, \d+ nodes: all there\n\d+ blocks here, none of them read\n$/)
  const whole = await home.ask<Result<'check'>>(['check', '--read-data'])
  t.equal(whole.blocksRead, whole.blocks)
  const half = await home.ask<Result<'check'>>(['check', '--read-data=1/2'])
  const other = await home.ask<Result<'check'>>(['check', '--read-data=2/2'])
  t.equal(half.blocksRead + other.blocksRead, whole.blocks)
  t.equal((await home.kith(['check', '--read-data', '25.5%'])).code, 0)
  for (const wrong of ['3/2', '101%'])
    t.equal((await home.kith(['check', `--read-data=${wrong}`])).code, exitCodes.usage, wrong)

  await home.ask(['stop'])
  const segment = segmentOf(home)
  // The last records are the second snapshot's nodes; the middle is one of its chunks.
  flipBit(segment, 700_000)
  t.equal((await home.kith(['check'])).code, 0, 'bytes are read only when asked')
  const hurt = await home.kith(['check', '--read-data'])
  t.equal(hurt.code, exitCodes.damaged)
  t.match(hurt.stderr, /^kith: 1 block damaged/)
  t.match(hurt.stdout, /files and directories hurt: 1\n {4}second\\x1b\n {2}snapshots hurt: 1\n/)
  const asJson = await home.kith(['check', '--read-data', '--json'])
  t.equal(asJson.code, exitCodes.damaged)
  t.match(asJson.json, { damaged: 1, missing: 0, volumes: [{ hurt: { count: 1, first: ['second\\x1b'] } }] })

  await home.ask(['stop'])
  truncateSync(segment, 500_000)
  const cut = await home.kith(['check'])
  t.equal(cut.code, exitCodes.damaged)
  t.match(cut.stdout, /segment 1 is cut short: 500000 of \d+ bytes/)
})

function segmentOf(home: TestHome): string {
  const folder = join(home.home, 'store', 'segments')
  const [name = ''] = readdirSync(folder)
  const file = join(folder, name)
  if (statSync(file).size < 800_000) throw new Error('not as it should be made')
  return file
}
