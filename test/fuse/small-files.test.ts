// Small files that are read again come from the kernel's cache (native/kith-fuse/small_files.cc): at what cost, with the
// right bytes, and with access times as on a bare directory.
import t from 'tap'
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { mountForTest, ran, testProgram, type TestMount } from '../helpers/fuse-mount.js'

t.setTimeout(240_000)

const daySeconds = 86_400

/** Requests that kith-fuse has read. */
function requests(mount: TestMount): number {
  return Number(/^syscr: (\d+)$/m.exec(readFileSync(`/proc/${mount.pid}/io`, 'utf8'))?.[1])
}

/** Lets the clock of the file system, which is a coarse one, go on. */
function tick(dir: string): void {
  const path = join(dir, 'clock')
  const now = (): bigint => {
    writeFileSync(path, '')
    return statSync(path, { bigint: true }).ctimeNs
  }
  const before = now()
  while (now() === before);
}

t.test('to read one again, and look at it, costs an OPEN and a RELEASE', async (t) => {
  const mount = await mountForTest(t)
  const paths = Array.from({ length: 50 }, (_, i) => join(mount.dir, `f${i}`))
  const look = (): void => {
    for (const path of paths) {
      readFileSync(path)
      statSync(path)
    }
  }
  for (const [i, path] of paths.entries()) writeFileSync(path, 'x'.repeat(1 + i * 100))
  for (let i = 0; i < 3; i++) look()
  const before = requests(mount)
  for (let i = 0; i < 10; i++) look()
  const asked = (requests(mount) - before) / (10 * paths.length)
  t.ok(asked < 2.2, `${asked} requests each`)
})

t.test('their access times move when they move on a bare directory', async (t) => {
  const mount = await mountForTest(t)
  const story = (dir: string): string[] => {
    const path = join(dir, 'f')
    writeFileSync(path, 'first')
    const moved = (what: string, change: () => void): string => {
      tick(dir)
      change()
      tick(dir)
      const old = statSync(path, { bigint: true }).atimeNs
      readFileSync(path)
      return `${what}: ${statSync(path, { bigint: true }).atimeNs !== old ? 'moved' : 'stayed'}`
    }
    const past = (seconds: number) => () => utimesSync(path, Date.now() / 1000 - seconds, 1000)
    const nothing = (): void => undefined
    return [
      moved('read', nothing),
      moved('read again', nothing),
      moved('and again', nothing),
      moved('written', () => writeFileSync(path, 'second')),
      moved('read after that', nothing),
      moved('long not read', past(3 * daySeconds)),
      moved('read after that', nothing),
      moved('other rights', () => chmodSync(path, 0o600)),
      moved('read after that', nothing),
      moved('shorter', () => truncateSync(path, 2)),
      moved('read after that', nothing),
      moved('and again', nothing),
    ]
  }
  t.same(story(mount.dir), story(mount.bare))
})

t.test('what changes beneath is seen by who opens it next', async (t) => {
  const mount = await mountForTest(t)
  const [path, under] = [join(mount.dir, 'f'), join(mount.under, 'f')]
  writeFileSync(path, 'before')
  for (let i = 0; i < 3; i++) t.equal(readFileSync(path, 'utf8'), 'before')
  writeFileSync(under, 'AFTER!')
  utimesSync(under, Date.now() / 1000 - 10, 1000)
  for (let i = 0; i < 3; i++) t.equal(readFileSync(path, 'utf8'), 'AFTER!')
})

t.test(
  'what was once open to read and write is looked at for nothing when nobody can have it mapped',
  async (t) => {
    const mount = await mountForTest(t)
    const paths = Array.from({ length: 50 }, (_, i) => join(mount.dir, `f${i}`))
    for (const path of paths) writeFileSync(path, 'old', { flag: 'w+' })
    const look = (): void => paths.forEach((path) => statSync(path))
    look()
    const before = requests(mount)
    for (let i = 0; i < 10; i++) look()
    const asked = (requests(mount) - before) / (10 * paths.length)
    t.ok(asked < 0.2, `${asked} requests each`)
  },
)

for (const uid of [0, 1000])
  t.test(`several processes read and change them at once, as user ${uid}`, async (t) => {
    const mount = await mountForTest(t, uid === 0 ? {} : { uid })
    const under = join(mount.base, 'under')
    mkdirSync(under)
    // The path would be that of the mount: it is not to be resolved.
    await ran('mount', ['--no-canonicalize', '--bind', mount.under, under])
    t.teardown(() => ran('umount', [under]))
    t.not((await ran('findmnt', ['-no', 'FSTYPE', under])).trim(), 'fuse.kith')
    for (const seed of ['1', '2']) {
      await ran('mkdir', [join(mount.dir, seed)], { uid })
      const program = [testProgram('small_files.py'), join(mount.dir, seed), join(under, seed), seed, '20']
      t.equal(await ran('python3', program, { uid }), '')
    }
    t.comment('and by mappings that outlive their descriptors')
    await ran('mkdir', [join(mount.dir, 'mapped')], { uid })
    const program = [testProgram('mappings.py'), join(mount.dir, 'mapped'), join(under, 'mapped'), '1', '400']
    t.equal(await ran('python3', program, { uid }), '')
    t.equal(mount.log, '')
  })
