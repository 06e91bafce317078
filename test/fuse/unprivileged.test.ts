// kith-fuse as a plain user, who mounts by fusermount3 and serves only what the user may do.
import t from 'tap'
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nativeFile } from '../../lib/base/native-files.js'
import { inGroupsArgs, isMounted, mountForTest, ran, run, testProgram } from '../helpers/fuse-mount.js'

const user = 1000
t.setTimeout(280_000)

/** The programs run as the user, who may not read the project's own folder. */
async function programsFor(base: string): Promise<string> {
  const copies = join(base, 'programs')
  mkdirSync(copies)
  for (const name of ['casebook.py', 'names.py', 'data.py', 'random_operations.py', 'ordinary_user.py'])
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

/** Files of root's: in a directory of the user's, in one of root's, and in one where everybody may make files. */
function layForeignFiles(dir: string): void {
  const folders: [string, number, number][] = [
    ['own', 0o755, user],
    ['roots', 0o755, 0],
    ['sticky', 0o1777, 0],
  ]
  for (const [name, mode, uid] of folders) {
    const folder = join(dir, name)
    mkdirSync(join(folder, 'dir'), { recursive: true })
    for (const [file, fileMode] of Object.entries({ open: 0o644, closed: 0o600, 'dir/inside': 0o644 })) {
      writeFileSync(join(folder, file), 'of root')
      chmodSync(join(folder, file), fileMode)
    }
    symlinkSync('open', join(folder, 'link'))
    chownSync(folder, uid, uid)
    chmodSync(folder, mode)
  }
}

t.test(
  'files of others, modes that shut out the owner, groups, set-id bits: as on a bare directory',
  async (t) => {
    const group = 4242
    const prepare = (dir: string) => {
      layForeignFiles(dir)
      return Promise.resolve()
    }
    const mount = await mountForTest(t, { uid: user, groups: [group], prepare })
    layForeignFiles(mount.bare)
    const program = join(await programsFor(mount.base), 'ordinary_user.py')
    const steps = async (dir: string) => {
      const args = inGroupsArgs(user, [group], '/usr/bin/python3', [program, dir, String(group)])
      return (await ran('setpriv', args)).split('\n')
    }
    const bare = await steps(mount.bare)
    t.ok(bare.length > 300, `${bare.length} steps`)
    t.same(await steps(mount.dir), bare)
    t.equal(mount.log, '')
  },
)

t.test('in a user namespace, where the user is root of nothing else', async (t) => {
  const base = mkdtempSync(join(tmpdir(), 'kith-namespace-'))
  t.teardown(() => rmSync(base, { recursive: true, force: true }))
  chmodSync('/dev/fuse', 0o666)
  copyFileSync(nativeFile('kith-fuse'), join(base, 'kith-fuse'))
  for (const dir of ['', 'dir', 'state']) {
    mkdirSync(join(base, dir), { recursive: true })
    chownSync(join(base, dir), user, user)
  }
  const script = `
set -e
cd '${base}'
mkfifo said
./kith-fuse --dir-fd 3 --mountpoint '${base}/dir' --state '${base}/state' 3<dir >said &
read -r word <said
test "$word" = ready
echo text >dir/a
mkdir dir/b
mv dir/a dir/b/c
cat dir/b/c
stat -c '%u %g %a' dir/b
stat -fc %T dir
umount -l dir
wait
ls dir/b
`
  const said = await run('unshare', ['-Urm', 'sh', '-c', script], { uid: user })
  if (said.code !== 0 && said.stderr.includes('unshare: '))
    return t.pass('this kernel gives users no namespaces')
  t.match(said.stdout, /^text\n0 0 755\n(fuseblk|fuse|UNKNOWN.*)\nc\n$/, said.stderr)
  t.equal(said.code, 0)
})

t.test('what it says when the user may not mount', async (t) => {
  const mount = await mountForTest(t, { uid: user })
  mount.signal('SIGTERM')
  await mount.end()
  const args = ['--dir-fd', '3', '--mountpoint', mount.dir, '--state', mount.state]
  const kithFuse = `'${nativeFile('kith-fuse')}' ${args.join(' ')} 3< ${mount.dir}`
  const asUser = (command: string) => run('/bin/sh', ['-c', command], { uid: user })
  const without = await asUser(`PATH=/nowhere; exec ${kithFuse}`)
  t.equal(without.code, 1)
  t.match(
    without.stdout,
    /^cannot run fusermount3 \(No such file or directory\): install the package fuse3\n$/,
  )
  await ran('chown', ['0:0', mount.dir])
  const foreign = await asUser(`exec ${kithFuse}`)
  t.equal(foreign.code, 1)
  t.match(
    foreign.stdout,
    /^fusermount3 could not mount over the directory: .*no write access to mountpoint.*\n$/,
  )
  // A device of its own, as others may be using that of the machine.
  const shell = `mount -t tmpfs none /dev && mknod -m 600 /dev/fuse c 10 229 && mknod -m 666 /dev/null c 1 3 &&
    exec setpriv --reuid=${user} --regid=${user} --clear-groups ${kithFuse}`
  const closed = await run('unshare', ['-m', 'sh', '-c', shell])
  t.equal(closed.code, 1)
  t.match(
    closed.stdout,
    /^fusermount3 could not mount over the directory: .*\/dev\/fuse: Permission denied\n$/,
  )
})
