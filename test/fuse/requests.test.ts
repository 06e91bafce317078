// What costs the caller a round trip, and what does not: counted by the calls of read(2) that kith-fuse makes, one for each
// request.
import t, { type Test } from 'tap'
import {
  closeSync,
  constants,
  fstatSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { mountForTest, ran, type TestMount } from '../helpers/fuse-mount.js'

t.setTimeout(240_000)

function reads(mount: TestMount): number {
  return Number(/^syscr: (\d+)$/m.exec(readFileSync(`/proc/${mount.pid}/io`, 'utf8'))?.[1])
}

/** A tree of 100 directories, listed with attributes, so that the kernel knows all of it. */
async function known(t: Test): Promise<TestMount> {
  const mount = await mountForTest(t)
  for (let i = 0; i < 100; i++) {
    mkdirSync(join(mount.dir, `d${i}`))
    writeFileSync(join(mount.dir, `d${i}`, 'f'), 'x')
  }
  await ran('ls', ['-lR', mount.dir])
  return mount
}

t.test('to list what was listed before, and is as it was, asks nothing', async (t) => {
  const mount = await known(t)
  const before = reads(mount)
  for (let i = 0; i < 5; i++) await ran('ls', ['-R', mount.dir])
  const asked = reads(mount) - before
  t.ok(asked < 500, `${asked} requests for 500 directories`)
})

t.test('and what has changed is asked for', async (t) => {
  const mount = await known(t)
  for (let i = 0; i < 100; i++) {
    writeFileSync(join(mount.dir, `d${i}`, 'g'), 'y')
    t.equal(await ran('ls', [join(mount.dir, `d${i}`)]), 'f\ng\n')
  }
})

// O_PATH, which Node does not name.
const pathOnly = 0o10000000

/** A descriptor that opens nothing: the kernel knows the file, and kith-fuse has no handle of it. */
function pointAt(t: Test, path: string): number {
  const fd = openSync(path, pathOnly | constants.O_NOFOLLOW)
  t.teardown(() => closeSync(fd))
  return fd
}

t.test('files that are made, looked at and renamed cost kith-fuse no descriptors', async (t) => {
  const mount = await mountForTest(t)
  mkdirSync(join(mount.dir, 'd'))
  const held = (): number => readdirSync(`/proc/${mount.pid}/fd`).length
  const before = held()
  for (let i = 0; i < 100; i++) {
    const path = join(mount.dir, 'd', `f${i}`)
    writeFileSync(path, 'x'.repeat(i))
    t.equal(statSync(path).size, i)
    renameSync(path, join(mount.dir, 'd', `g${i}`))
    t.equal(statSync(join(mount.dir, 'd', `g${i}`)).size, i)
  }
  t.ok(held() - before < 20, `${held() - before} more of them`)
})

t.test('a name that leads elsewhere tells nothing of the file that had it', async (t) => {
  const mount = await mountForTest(t)
  const [path, under] = [join(mount.dir, 'f'), join(mount.under, 'f')]
  writeFileSync(path, 'this')
  const fd = pointAt(t, path)
  renameSync(under, join(mount.under, 'g'))
  writeFileSync(under, 'the other')
  try {
    t.equal(fstatSync(fd).size, 4)
  } catch (error) {
    t.match(error, { errno: -116 }, 'ESTALE')
  }
})

t.test('an open file is known by its descriptor, wherever its name leads', async (t) => {
  for (const uid of [0, 1000]) {
    const mount = await mountForTest(t, uid === 0 ? {} : { uid })
    // A user's mount lets nobody else in, and this process can be no one else.
    if (uid === 0) {
      const fd = openSync(join(mount.dir, 'f'), 'wx+')
      t.teardown(() => closeSync(fd))
      writeFileSync(fd, 'this')
      renameSync(join(mount.under, 'f'), join(mount.under, 'g'))
      writeFileSync(join(mount.under, 'f'), 'the other')
      t.equal(fstatSync(fd).size, 4)
    } else {
      const script = `import os, sys
os.chdir(sys.argv[1])
fd = os.open('f', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
os.mkdir('d')
os.link('f', 'd/g')
os.write(fd, b'this')
os.unlink('f')
os.chmod('d', 0)
assert os.fstat(fd).st_size == 4 and os.fstat(fd).st_nlink == 1
os.chmod('d', 0o700)
`
      t.equal(await ran('python3', ['-c', script, mount.dir], { uid }), '')
    }
  }
})

t.test('what lost its name stays what it was for who points at it', async (t) => {
  const mount = await mountForTest(t)
  const path = (name: string): string => join(mount.dir, name)
  const losses: Record<string, (name: string) => void> = {
    unlinked: (name) => rmSync(path(name)),
    replaced: (name) => {
      writeFileSync(path('new'), 'of another')
      renameSync(path('new'), path(name))
    },
    'one of two': (name) => {
      linkSync(path(name), path('second'))
      rmSync(path(name))
    },
  }
  for (const [name, lose] of Object.entries(losses)) {
    writeFileSync(path(name), name)
    const fd = pointAt(t, path(name))
    const { ino } = fstatSync(fd)
    writeFileSync(`/proc/self/fd/${fd}`, name)
    lose(name)
    // Another that could get its number, were it free.
    for (let i = 0; i < 20; i++) writeFileSync(path(`${name}${i}`), '')
    t.match(fstatSync(fd), { ino, size: name.length, nlink: name === 'one of two' ? 1 : 0 }, name)
    t.equal(readFileSync(`/proc/self/fd/${fd}`, 'utf8'), name)
  }
})
