// repair through the built command: an owner and a partner, both with damaged disks.
import t from 'tap'
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import type { Result } from '../../lib/daemon/api.js'
import { seededBytes } from '../helpers/bytes.js'
import { flipBit } from '../helpers/damage.js'
import { KithWorld, until } from '../helpers/kith.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'

function firstSegment(...folder: string[]): string {
  const dir = join(...folder, 'segments')
  const [name = ''] = readdirSync(dir).sort()
  return join(dir, name)
}

t.test('damage here and at a partner is healed', { skip }, async (t) => {
  const world = await KithWorld.start(t)
  const { owner, partners } = await world.circle(1)
  const [partner] = partners
  if (!partner) throw new Error('no partner')
  const dir = world.directory('protected')
  await owner.run('mount', dir)
  writeFileSync(join(dir, 'gone'), seededBytes(seeded(1), 400_000))
  await owner.snapshot(dir)
  rmSync(join(dir, 'gone'))
  writeFileSync(join(dir, 'alive'), seededBytes(seeded(2), 400_000))
  await owner.snapshot(dir)
  await owner.sync(dir)
  const { vault } = await partner.run<Result<'check'>>('check', '--read-data')
  t.ok(vault.blocks > 4)
  t.equal(vault.blocksRead, vault.blocks)

  await owner.run('stop')
  await partner.run('stop')
  flipBit(firstSegment(owner.home, 'store'), 150_000)
  flipBit(firstSegment(partner.home, 'vault'), 600_000)

  const dropped = await partner.run<Result<'repair'>>('repair')
  t.match(dropped, { dropped: 1, before: { vault: { damaged: 1 } }, after: { vault: { damaged: 0 } } })
  await owner.run('status')
  await owner.waitForPartners(1)

  const dry = await owner.try('repair', '--dry-run')
  t.equal(dry.code, exitCodes.damaged)
  t.match(dry.stdout, /^1 block can be healed: 1 from partners\n/)
  const repaired = await owner.try('repair')
  t.equal(repaired.code, 0, repaired.stderr)
  t.match(repaired.stdout, /^1 block healed: 1 from partners\n/)
  t.equal((await owner.try('check', '--read-data')).code, 0)
  t.match((await owner.try('repair')).stdout, /^Nothing is damaged\n/)

  // One by schedule may have been first.
  await owner.try('audit', '--full')
  await until('the partner has it again', 60, async () => {
    const now = await partner.run<Result<'check'>>('check', '--read-data')
    return now.vault.blocks === vault.blocks
  })
})
