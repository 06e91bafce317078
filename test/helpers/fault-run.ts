/** Runs test/faults/fault-child.ts until a fault ends it, and looks at what it left. */
import { spawn } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { close, openRoot } from '../../lib/base/posix.js'
import { Database } from '../../lib/blocks/database.js'
import { Config } from '../../lib/daemon/config.js'
import { Home } from '../../lib/daemon/home.js'
import { MountMark } from '../../lib/daemon/mount-mark.js'
import { Book } from '../../lib/partners/book.js'
import { Store } from '../../lib/store/store.js'
import { Vault } from '../../lib/vault/vault.js'
import { change, sameAsDirectory, testIdentity } from './store.js'
import { said } from './two-snapshots.js'

export const faultChild = fileURLToPath(new URL('../faults/fault-child.js', import.meta.url))
const good = { wounds: [], hurt: [], snapshots: 0, problems: [], unused: 0 }

interface Ended {
  signal: NodeJS.Signals | null
  code: number | null
  told: string[]
}

/** @param lateMs kill it so long after it began, if it has not ended */
export function runChild(base: string, fault: string, lateMs?: number): Promise<Ended> {
  rmSync(base, { recursive: true, force: true })
  mkdirSync(join(base, 'live'), { recursive: true })
  const env = { ...process.env, KITH_TEST: '1', KITH_FAULT: fault }
  const child = spawn(process.execPath, [faultChild, join(base, 'home'), join(base, 'live')], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const timer = lateMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), lateMs)
  let text = ''
  child.stdout.on('data', (data: Buffer) => (text += data.toString()))
  return new Promise((resolve) =>
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ code, signal, told: text.split('\n').slice(0, -1) })
    }),
  )
}

/** What was told is there, a check finds nothing, and the next snapshot is the directory. */
export async function sound(t: Test, base: string, told: string[]): Promise<void> {
  const of = (what: string) =>
    told.filter((line) => line.startsWith(`${what} `)).map((line) => line.split(' ')[1])
  const has = (what: string) => of(what).length > 0
  mkdirSync(join(base, 'home'), { recursive: true, mode: 0o700 })
  const home = Home.open(join(base, 'home'))
  if (has('keys')) t.ok(home.identity()?.id.equals(testIdentity.id))
  const { name } = Config.open(home).settings
  t.ok(has('settings') ? name === 'faulty' : name === undefined || name === 'faulty', 'settings are whole')
  const mark = new MountMark(home.dir, Buffer.alloc(16, 5)).get()
  if (has('marked') && !has('book')) t.same(mark, { ino: 77n, engine: 'fuse' })
  if (has('unmarked')) t.equal(mark, undefined)
  const options = { clock: systemClock, log: silentLog(), identity: testIdentity, workers: 1 }
  const dir = join(base, 'live')
  const store = await Store.open(home.folder('store'), options)
  const volume = store.volumes()[0] ?? (await store.createVolume({ dir }))
  const rootFd = openRoot(dir)
  const names = volume.snapshots().map((snapshot) => snapshot.name)
  const wanted = of('snapshot').filter((snapshot) => !of('forgotten').includes(snapshot))
  const lost = wanted.filter((snapshot) => snapshot !== undefined && !names.includes(snapshot))
  // One that was being forgotten may be gone already.
  t.ok(
    lost.length === 0 || (wanted.length === 2 && lost[0] === wanted[0]),
    'snapshots that were told are there',
  )
  t.same(said(await store.check({ wanted: () => true })), good, 'a check finds nothing')
  // What the log had for the snapshot is told again, whether that one was made or not.
  await volume.snapshot(
    rootFd,
    {},
    of('logged').map((ino) => change('close', BigInt(ino ?? 0))),
  )
  await sameAsDirectory(t, { dir, home: home.dir, rootFd, store, volume, reopen: async () => undefined })
  t.same(said(await store.check()), good)
  const vault = await Vault.open(home.folder('vault'), {
    ...options,
    quotaBytes: 1e9,
    partnerKey: Buffer.alloc(32, 9),
  })
  t.match(await vault.check(() => true, {}), { damaged: 0, problems: [] })
  const { blocks } = vault.held(testIdentity.id)
  t.ok(
    has('released') ? blocks === 2 : has('held') ? blocks >= 2 : [0, 3].includes(blocks),
    'held for others',
  )
  const db = Database.open(join(home.folder('partners'), 'db'))
  if (has('book')) t.equal(new Book(db).progress(Buffer.alloc(32, 3)).cursor, 41)
  close(rootFd)
  await Promise.all([vault.close(), store.close(), db.close()])
}
