// kith-fuse as a plain user, who mounts by fusermount3 and serves only what the user may do.
import t from 'tap'
import { chownSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { isMounted, mountForTest, ran, run, testProgram } from '../helpers/fuse-mount.js'

const user = 1000
t.setTimeout(280_000)

/** The programs run as the user, who may not read the project's own folder. */
async function programsFor(base: string): Promise<string> {
  const copies = join(base, 'programs')
  mkdirSync(copies)
  for (const name of ['casebook.py', 'names.py', 'data.py', 'random_operations.py'])
    await ran('cp', [testProgram(name), copies])
  await ran('chmod', ['-R', 'a+rX', copies])
  return copies
}

t.test('what a user does on the mount is what the user does on a bare directory', async (t) => {
  const mount = await mountForTest(t, { uid: user })
  const programs = await programsFor(mount.base)
  const python = async (program: string, ...args: string[]) =>
    (await run('/usr/bin/python3', [join(programs, program), ...args], { uid: user })).stdout.split('\n')
  for (const program of ['names.py', 'data.py']) {
    const bare = await python(program, mount.bare)
    t.ok(bare.length > 5)
    t.same(await python(program, mount.dir), bare, program)
  }
  for (const seed of ['1', '2', '3']) {
    const inside = (dir: string) => {
      mkdirSync(join(dir, seed))
      chownSync(join(dir, seed), user, user)
      return join(dir, seed)
    }
    const bare = await python('random_operations.py', inside(mount.bare), seed, '1500')
    await ran('mkdir', [join(mount.dir, seed)], { uid: user })
    t.same(await python('random_operations.py', join(mount.dir, seed), seed, '1500'), bare, `seed ${seed}`)
  }
  t.equal(mount.log, '')
})

t.test('more files than descriptors, found again by their names', async (t) => {
  const mount = await mountForTest(t, { uid: user })
  const script = `
import os
os.chdir('${mount.dir}')
for d in range(30):
    os.mkdir(f'd{d}')
    for f in range(100):
        with open(f'd{d}/f{f}', 'w') as file: file.write(f'{d} {f}')
kept = os.open('d3/f3', os.O_RDONLY)
os.rename('d7', 'moved')
os.unlink('d3/f3')
for d in range(30):
    for f in range(100):
        if (d, f) == (3, 3): continue
        path = f'd{d}/f{f}' if d != 7 else f'moved/f{f}'
        os.chmod(path, 0o600)
        with open(path) as file: assert file.read() == f'{d} {f}', path
assert os.read(kept, 10) == b'3 3' and os.fstat(kept).st_nlink == 0
print(len(os.listdir('/proc/${mount.pid}/fd')))
`
  const descriptors = Number(await ran('/usr/bin/python3', ['-c', script], { uid: user }))
  t.ok(descriptors > 500 && descriptors < 1200, `${descriptors} descriptors`)
  t.equal(mount.log, '')
})

t.test('root is kept out, and the user unmounts', async (t) => {
  const mount = await mountForTest(t, { uid: user })
  await ran('touch', [join(mount.dir, 'f')], { uid: user })
  t.not((await run('stat', [join(mount.dir, 'f')])).code, 0)
  mount.signal('SIGTERM')
  await mount.end()
  t.equal(mount.exitCode, 0)
  t.notOk(isMounted(mount.dir))
  t.ok(statSync(join(mount.dir, 'f')).isFile())
})

t.test('what it says when the user may not mount', async (t) => {
  const mount = await mountForTest(t, { uid: user })
  mount.signal('SIGTERM')
  await mount.end()
  const args = ['--dir-fd', '0', '--mountpoint', mount.dir, '--state', mount.state]
  // A device of its own, as others may be using that of the machine.
  const shell = `mount -t tmpfs none /dev && mknod -m 600 /dev/fuse c 10 229 && mknod -m 666 /dev/null c 1 3 &&
    exec setpriv --reuid=${user} --regid=${user} --clear-groups '${process.cwd()}/dist/native/kith-fuse' ${args.join(' ')} < ${mount.dir}`
  const said = await run('unshare', ['-m', 'sh', '-c', shell])
  t.equal(said.code, 1)
  t.match(said.stdout, /fusermount3/)
})
