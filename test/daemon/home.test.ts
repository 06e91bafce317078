import t from 'tap'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { randomBytes } from '../../lib/base/random.js'
import { deriveIdentity } from '../../lib/format/keys.js'
import { writeDurably } from '../../lib/base/durable.js'
import { Home } from '../../lib/daemon/home.js'
import { HomeLock } from '../../lib/daemon/lock.js'

t.test('a home is made for its owner only, and found through symlinks', async (t) => {
  const base = t.testdir()
  const dir = join(base, 'a', 'home')
  const home = Home.open(dir)
  t.equal(statSync(dir).mode & 0o777, 0o700)
  symlinkSync(dir, join(base, 'link'))
  t.equal(Home.open(join(base, 'link')).dir, home.dir)
  t.equal(statSync(home.folder('vault')).mode & 0o777, 0o700)
  chmodSync(dir, 0o750)
  t.throws(() => Home.open(dir), { code: 'denied', message: /chmod 700/ })
})

t.test('the keys file: kept once, whole or refused', async (t) => {
  const base = t.testdir()
  mkdirSync(join(base, 'home'), { mode: 0o700 })
  const home = Home.open(join(base, 'home'))
  t.equal(home.identity(), undefined)
  const identity = deriveIdentity(randomBytes(32))
  home.keepIdentity(identity)
  const file = home.file('keys')
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.equal(statSync(file).size, 112)
  t.ok(home.identity()?.id.equals(identity.id))
  t.ok(home.identity()?.kek.equals(identity.kek))
  t.throws(() => home.keepIdentity(deriveIdentity(randomBytes(32))), { code: 'exists' })
  t.ok(home.identity()?.id.equals(identity.id), 'the first one stays')
  const good = readFileSync(file)
  for (let at = 0; at < good.length; at++) {
    const bad = Buffer.from(good)
    bad.writeUInt8(bad.readUInt8(at) ^ 0x10, at)
    writeFileSync(file, bad)
    t.throws(() => home.identity(), { code: 'damaged' }, `byte ${at}`)
  }
  writeFileSync(file, good)
  truncateSync(file, 111)
  t.throws(() => home.identity(), { code: 'damaged' })
})

t.test('a file is replaced whole, also after one that was left half written', async (t) => {
  const file = join(t.testdir({ it: 'before', 'it.new': 'half' }), 'it')
  writeDurably(file, Buffer.from('after'))
  t.equal(readFileSync(file, 'utf8'), 'after')
  t.notOk(existsSync(`${file}.new`))
})

t.test('one lock per home', async (t) => {
  const base = t.testdir()
  mkdirSync(join(base, 'home'), { mode: 0o700 })
  const home = Home.open(join(base, 'home'))
  const lock = HomeLock.take(home)
  t.throws(() => HomeLock.take(home), { code: 'busy', message: new RegExp(`process ${process.pid}`) })
  lock.release()
  HomeLock.take(home).release()
})
