/**
 * What a daemon makes durable, once each: keys, settings, the mark of a mount, changes, snapshots, a removal that rewrites a
 * segment, a forgotten snapshot, blocks held for others and their release, the book. Tells each step that is done, and
 * tries a step again that fails for want of room, so that `KITH_FAULT=noSpace` fails each of its writes.
 */
import { mkdirSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../lib/base/clock.js'
import { asKithError } from '../../lib/base/errors.js'
import { silentLog } from '../../lib/base/log.js'
import { openRoot } from '../../lib/base/posix.js'
import { seeded } from '../../lib/base/random.js'
import { Database } from '../../lib/blocks/database.js'
import { writeDurably } from '../../lib/base/durable.js'
import { Home } from '../../lib/daemon/home.js'
import { MountMark } from '../../lib/daemon/mount-mark.js'
import { blockName } from '../../lib/format/seal.js'
import { encodeRelease } from '../../lib/format/wire-release.js'
import { Book } from '../../lib/partners/book.js'
import { Store } from '../../lib/store/store.js'
import { Vault } from '../../lib/vault/vault.js'
import { seededBytes } from '../helpers/bytes.js'
import { change, testIdentity } from '../helpers/store.js'

const [homeDir = '', dir = '', seed = '1'] = process.argv.slice(2)
const random = seeded(Number(seed))
const volumeId = Buffer.alloc(16, 5)

/** Fails at most as often as there are writes in it. */
async function step<T>(
  name: string,
  work: () => Promise<T> | T,
  say: (value: T) => string = () => '',
): Promise<T> {
  for (let refused = 0; ; refused++) {
    try {
      const value = await work()
      writeSync(1, `${name} ${say(value)}\n`)
      return value
    } catch (error) {
      const { code, message } = asKithError(error)
      if (code !== 'noSpace' || refused > 100) throw error
      writeSync(1, `refused ${message}\n`)
    }
  }
}

function write(name: string, bytes: number): bigint {
  writeFileSync(join(dir, name), seededBytes(random, bytes))
  return statSync(join(dir, name), { bigint: true }).ino
}

mkdirSync(homeDir, { recursive: true, mode: 0o700 })
const home = Home.open(homeDir)
await step('keys', () => home.identity() ?? home.keepIdentity(testIdentity))
// As config.ts writes it, which takes long to load.
await step('settings', () => writeDurably(home.file('config.json'), Buffer.from('{"name":"faulty"}')))
const mark = new MountMark(home.dir, volumeId)
await step('marked', () => mark.set({ ino: 77n, engine: 'fuse' }))

const options = { clock: systemClock, log: silentLog(), identity: testIdentity, workers: 1 }
const store = await step('store', () => Store.open(home.folder('store'), options))
const volume = await step('volume', () => store.createVolume({ dir }))
const rootFd = openRoot(dir)
const parent = statSync(dir, { bigint: true }).ino
write('large', 400_000)
write('small', 30)
const tell = ({ name }: { name: string }) => name
const first = await step('snapshot', () => volume.snapshot(rootFd), tell)
// The records come first, as the mount's own log has them on disk whatever happens to this process.
await step('recorded', () => volume.recordChanges([change('names', 0n, { parent })]))
write('more', 100_000)
const small = statSync(join(dir, 'small'), { bigint: true }).ino
await step(
  'logged',
  () => small,
  (ino) => String(ino),
)
write('small', 100_000)
await step('snapshot', () => volume.snapshot(rootFd, {}, [change('close', small)]), tell)
await step(
  'forgotten',
  () => volume.forget([first.name]),
  () => first.name,
)

const strays = Array.from({ length: 3 }, () => seededBytes(random, 400_000))
await step('strays', async () => {
  for (const bytes of strays) await store.blocks.put(blockName(bytes), bytes)
  await store.blocks.commit()
})
await step('removed', () => store.blocks.remove(strays.map(blockName)))

const owner = testIdentity
const vault = await step('vault', () =>
  Vault.open(home.folder('vault'), { ...options, quotaBytes: 1e9, partnerKey: Buffer.alloc(32, 9) }),
)
const held = Array.from({ length: 3 }, () => seededBytes(random, 5000))
await step('held', async () => {
  for (const bytes of held) await vault.put(owner.id, blockName(bytes), bytes)
  await vault.commit(owner.id)
})
const request = { kind: 'blocks', partner: Buffer.alloc(32, 9), volume: volumeId } as const
// An owner numbers each try anew.
let number = 0
await step('released', () => {
  const names = held.slice(0, 1).map(blockName)
  return vault.release(owner.id, encodeRelease({ ...request, number: ++number, names }, owner.keyPair))
})
const db = Database.open(join(home.folder('partners'), 'db'))
const book = new Book(db)
await step('book', () => book.advance(Buffer.alloc(32, 3), 41))
await step('unmarked', () => mark.clear())
await vault.close()
await store.close()
await db.close()
