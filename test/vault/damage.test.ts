import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { seeded } from '../../lib/base/random.js'
import type { Vault } from '../../lib/vault/vault.js'
import { block, connect, folder, identity, openVault } from '../helpers/backup.js'

const partner = identity(1)
const ann = identity(2)
const bob = identity(3)

async function filled(t: Test, dir: string, count: number) {
  const random = seeded(count)
  const blocks = Array.from({ length: count }, () => block(random, 5000))
  const vault = await openVault(t, partner, { dir })
  for (const { name, bytes } of blocks) await vault.put(ann.id, name, bytes)
  await vault.commit(ann.id)
  return { vault, blocks }
}

/** One round over the whole vault. */
async function round(vault: Vault, limit = 16): Promise<number> {
  let damaged = 0
  let after: Buffer | undefined
  do {
    const step = await vault.verify(limit, after)
    damaged += step.damaged.length
    after = step.next
  } while (after)
  return damaged
}

const segment = (dir: string) => join(dir, 'segments', readdirSync(join(dir, 'segments'))[0] ?? '')

t.test('a round drops what is damaged, and only that', async (t) => {
  const dir = folder(t)
  const { vault, blocks } = await filled(t, dir, 100)
  t.equal(await round(vault), 0)
  await vault.close()
  const bytes = readFileSync(segment(dir))
  for (const at of [2000, 300_000]) bytes[at] = (bytes[at] ?? 0) ^ 0x80
  writeFileSync(segment(dir), bytes)
  const again = await openVault(t, partner, { dir })
  t.equal(await round(again), 2)
  t.match(again.held(ann.id), { blocks: 98, bytes: 98 * 5000 })
  const missing = again.missing(
    ann.id,
    blocks.map(({ name }) => name),
  )
  t.equal(missing.filter(Boolean).length, 2)
  for (const [i, one] of blocks.entries()) if (missing[i]) await again.put(ann.id, one.name, one.bytes)
  await again.commit(ann.id)
  for (const one of blocks) t.same(await again.get(ann.id, one.name), one.bytes)
  t.equal(await round(again), 0)
})

t.test('a read finds damage as well: the block is missing then, for all its owners', async (t) => {
  const dir = folder(t)
  const { vault, blocks } = await filled(t, dir, 3)
  const names = blocks.map(({ name }) => name)
  vault.missing(bob.id, names)
  await vault.commit(bob.id)
  await vault.close()
  const bytes = readFileSync(segment(dir))
  bytes[100] = (bytes[100] ?? 0) ^ 1
  writeFileSync(segment(dir), bytes)
  const again = await openVault(t, partner, { dir })
  const got = await Promise.all(names.map((name) => again.get(ann.id, name)))
  t.equal(got.filter(Boolean).length, 2)
  t.equal(again.held(ann.id).blocks, 2)
  t.equal(again.held(bob.id).blocks, 2)
  t.equal(again.missing(bob.id, names).filter(Boolean).length, 1)
})

t.test('blocks that nobody wants are freed by the round, those just sent are not', async (t) => {
  const dir = folder(t)
  const { vault } = await filled(t, dir, 5)
  const [lost, sent] = [block(seeded(7)), block(seeded(8))]
  await vault.put(bob.id, lost.name, lost.bytes)
  // Committed along with Ann's: as after a crash between the two steps of a commit, bytes without an interest.
  await vault.put(ann.id, sent.name, sent.bytes)
  await vault.commit(ann.id)
  await vault.close()
  const again = await openVault(t, partner, { dir })
  const before = again.bytes
  t.equal(before, 5 * 5000 + lost.bytes.length + sent.bytes.length)
  await round(again)
  t.equal(again.bytes, 5 * 5000 + sent.bytes.length)
  await again.put(bob.id, lost.name, lost.bytes)
  await round(again)
  await again.commit(bob.id)
  t.same(await again.get(bob.id, lost.name), lost.bytes)
})

t.test('a full disk: refused, told to the owner, and the vault lives on', async (t) => {
  if (process.getuid?.() !== 0) return void t.pass('only root can mount a small disk')
  const dir = folder(t)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'kith-test', dir])
  if (mounted.status !== 0) return void t.pass('no small disk can be mounted here')
  t.teardown(() => spawnSync('umount', ['-l', dir]))
  const vault = await openVault(t, partner, { dir })
  const random = seeded(9)
  const { owner } = await connect(t, ann, partner, vault)
  const blocks = Array.from({ length: 40 }, () => block(random, 400_000))
  let kept = 0
  let refusal = ''
  for (const one of blocks) {
    await owner.put([one])
    try {
      await owner.request('commit', {})
      kept++
    } catch (error) {
      refusal = String(error)
    }
  }
  t.match(refusal, /no space left/)
  t.ok(kept > 5 && kept < 25, `${kept} kept`)
  t.notOk(owner.closed)
  for (const one of blocks.slice(0, kept)) {
    t.same((await owner.request('get', { names: [one.name] })).blocks, [one.bytes])
  }
  t.equal((await owner.request('held', {})).blocks, kept)
})
