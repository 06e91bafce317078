// No path through the mount leads the server outside its directory, and nobody gets more through it than a bare
// directory gives. Beside each directory lies a canary tree, which must be neither read nor changed.
import t from 'tap'
import { chmodSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mountForTest, ran, run, testProgram, TestMount, type Ran } from '../helpers/fuse-mount.js'

t.setTimeout(280_000)

const user = 1000
const other = 1001
const python = '/usr/bin/python3'

/** Everything that can be seen of the tree, when its files were read too. */
function look(tree: string): Promise<string> {
  return ran('sh', [
    '-c',
    `find '${tree}' -type f -printf '%A@ '; find '${tree}' -printf '%i %m %U %G %n %s %T@ %C@ %p %l\n' | sort; cat '${tree}'/canary`,
  ])
}

/** A tree beside the mount that anybody may change, so that only the server's own care protects it. */
async function canaryBeside(mount: TestMount): Promise<string> {
  const tree = join(mount.base, 'outside')
  await ran('sh', [
    '-c',
    `umask 0; mkdir -p '${tree}'/sub; for f in canary sub/canary; do echo canary > '${tree}'/$f; done; chown -R ${user} '${tree}'`,
  ])
  await ran('cat', [join(tree, 'canary'), join(tree, 'sub/canary')]) // so that no later reading of ours changes its access time
  return tree
}

const as = (uid: number, script: string, ...args: string[]): Promise<Ran> =>
  run('sh', ['-c', script, 'sh', ...args], { uid })

const asRootOfNamespace = (uid: number, script: string): Promise<Ran> =>
  run('unshare', ['-Urm', 'sh', '-c', script], { uid })

t.test('symbolic links lead where the caller sees them lead', async (t) => {
  const mount = await mountForTest(t)
  const outside = await canaryBeside(mount)
  const view = join(mount.base, 'view') // another root, with another file of the canary's name
  mkdirSync(join(view, mount.base, 'outside'), { recursive: true })
  mkdirSync(join(view, 'm'))
  writeFileSync(join(view, outside, 'canary'), 'of the view\n')
  mkdirSync(join(mount.dir, 'a/b'), { recursive: true })
  symlinkSync(join(outside, 'canary'), join(mount.dir, 'absolute'))
  symlinkSync('../../../outside/canary', join(mount.dir, 'a/b/up'))
  symlinkSync('../../bare/../outside', join(mount.dir, 'a/middle'))

  const before = await look(outside)
  for (const path of [
    'absolute',
    'a/b/up',
    'a/middle/canary',
    '../outside/canary',
    'a/../../outside/sub/canary',
  ])
    t.equal(await ran('cat', [join(mount.dir, path)]), 'canary\n', `${path}, by the caller's own right`)
  t.equal(statSync(`${mount.dir}/..`).ino, statSync(mount.base).ino)

  const inside = `cp --parents $(which cat readlink) $(ldd $(which cat readlink) | grep -o '/[^ ]*lib[^ :]*' | sort -u) '${view}'
    mount --bind '${mount.dir}' '${view}/m' && exec chroot '${view}'`
  const cat = (path: string) => run('unshare', ['-m', 'sh', '-c', `${inside} cat '/m/${path}'`])
  t.match(await cat('absolute'), { code: 0, stdout: 'of the view\n' }, 'the same link under another root')
  for (const path of ['../../../../outside/canary', 'a/b/up', 'a/middle/canary'])
    t.match(await cat(path), { code: 1, stderr: /No such file/ }, `${path} ends at the caller's root`)
  t.equal(await look(outside), before)
  t.equal(mount.log, '')
})

t.test('a directory exchanged with a link while others work below it', async (t) => {
  for (const uid of [0, user]) {
    const mount = await mountForTest(t, uid === 0 ? {} : { uid })
    const outside = await canaryBeside(mount)
    await ran('cp', [testProgram('exchange_race.py'), mount.base])
    const prepare = `cp -r '${outside}' d && ln -s '${outside}' s`
    await ran('sh', ['-c', prepare], { cwd: mount.under, ...(uid ? { uid } : {}) })
    const before = await look(outside)
    // A user's process has no way beneath its mount but its own server's descriptors.
    const under = uid === 0 ? mount.under : `/proc/${mount.pid}/fd/3`
    const args = [join(mount.base, 'exchange_race.py'), mount.dir, under, outside, '800']
    const raced = await run(python, args, uid ? { uid } : {})
    t.equal(raced.code, 0, raced.stderr)
    t.equal(raced.stdout, '2400\n', 'so many operations succeeded')
    t.equal(await look(outside), before)
    t.equal(mount.log, '')
  }
})

t.test('a directory that became a link, or was moved out, while it was open', async (t) => {
  for (const uid of [0, user]) {
    const mount = await mountForTest(t, uid === 0 ? {} : { uid })
    const outside = await canaryBeside(mount)
    const who = uid ? { uid } : {}
    // More files than the server keeps descriptors for, so that it must open its directories anew.
    await ran('sh', ['-c', `cd '${mount.dir}' && mkdir d e many moved; cd many; touch $(seq 1500)`], who)
    await ran('chown', [String(user), mount.base])
    const before = await look(outside)
    const script = `import os
os.chdir('${mount.dir}')
under, base, outside = '/proc/${mount.pid}/fd/3', '${mount.base}', '${outside}'
held = [os.open(name, os.O_RDONLY | os.O_DIRECTORY) for name in 'de']
def outrun():
    for i in range(1, 1501): os.close(os.open(f'many/{i}', os.O_RDONLY))
outrun()
os.rename(under + '/d', under + '/moved/d')
os.rename(under + '/e', base + '/moved')
for name in 'de': os.symlink(outside, f'{under}/{name}')
def attempt(call, *args, **named):
    try: return call(*args, **named)
    except OSError as error: return error.errno
for fd in held:
    outrun()
    attempt(os.open, 'canary', os.O_WRONLY | os.O_TRUNC, dir_fd=fd)
    attempt(os.open, 'sub/canary', os.O_RDWR | os.O_CREAT | os.O_TRUNC, dir_fd=fd)
    attempt(os.unlink, 'sub/canary', dir_fd=fd)
    attempt(os.mkdir, 'sub/new', dir_fd=fd)
    attempt(os.chmod, 'canary', 0o600, dir_fd=fd)
    assert os.stat('..', dir_fd=fd).st_ino == os.stat('${mount.dir}').st_ino, 'its parent is below the mount'
`
    await ran(python, ['-c', script], who)
    t.equal(await look(outside), before)
    t.equal(mount.log, '')
  }
})

t.test('nothing is linked or renamed across the edge; links from before are what they were', async (t) => {
  const mount = await mountForTest(t, {
    prepare: (dir) => Promise.resolve(writeFileSync(join(dir, 'f'), 'one')),
  })
  const outside = await canaryBeside(mount)
  const script = `import os
for call in (os.link, os.rename):
    for a, b in (('${mount.dir}/f', '${mount.bare}/l'), ('${outside}/canary', '${mount.dir}/l')):
        try: call(a, b)
        except OSError as error: print(error.errno)
`
  t.equal(await ran(python, ['-c', script]), '18\n'.repeat(4), 'EXDEV')
  await ran('ln', [join(mount.under, 'f'), join(mount.bare, 'l')])
  writeFileSync(join(mount.dir, 'f'), 'two')
  t.equal(readFileSync(join(mount.bare, 'l'), 'utf8'), 'two', 'a second name is a second name')
  t.equal(mount.log, '')
})

t.test('a file that appeared beneath the mount is not opened by its making', async (t) => {
  const mount = await mountForTest(t)
  chmodSync(mount.dir, 0o777)
  const file = join(mount.dir, 'secret')
  t.not((await as(user, `cat ${file}`)).code, 0, 'the kernel now knows that there is none')
  writeFileSync(join(mount.under, 'secret'), 'secret', { mode: 0o600 })
  const tried = await as(user, `exec 3<>${file} && cat <&3`)
  t.match(tried, { stdout: '', stderr: /Permission denied/ })
  t.not((await as(user, `echo changed > ${file}`)).code, 0)
  t.equal(readFileSync(file, 'utf8'), 'secret')
  writeFileSync(join(mount.under, 'open'), 'before', { mode: 0o666 })
  chmodSync(join(mount.under, 'open'), 0o666)
  t.equal((await as(user, `echo after > ${mount.dir}/open`)).code, 0, 'but one that is allowed is')
  t.equal(readFileSync(join(mount.dir, 'open'), 'utf8'), 'after\n')
  t.equal(mount.log, '')
})

t.test('made-up file handles', async (t) => {
  const mount = await mountForTest(t)
  const outside = await canaryBeside(mount)
  const kept = join(mount.base, 'handles')
  const fill = (dir: string) =>
    ran('sh', ['-c', 'mkdir -p a/b; for i in $(seq 50); do : > a/b/$i; done; : > a/file'], { cwd: dir })
  await fill(mount.dir)
  const before = await look(outside)
  const forge = (on: TestMount) =>
    ran(python, [testProgram('forged_handles.py'), on.dir, join(outside, 'canary'), kept])
  const [tried, opened] = (await forge(mount)).split(' ').map(Number)
  t.ok(Number(tried) > 1000 && Number(opened) > 10, `${tried} tried, ${opened} opened`)
  await mount.stop()
  const again = await TestMount.start(mount.base, {})
  t.teardown(() => again.stop())
  await forge(again)
  t.equal(await look(outside), before)
  t.equal(again.log, '')
})

t.test('the server shows nobody else what it has open', async (t) => {
  const hidden = (server: number) =>
    `for f in root cwd exe fd fd/3 maps mem task/${server}/fd/3 task/${server}/root; do
       p=/proc/${server}/$f; { readlink $p || ls -L $p/ || head -c1 $p; } 2>/dev/null; done`
  const mount = await mountForTest(t)
  chmodSync(mount.dir, 0o777)
  t.equal((await as(user, `: > ${mount.dir}/own`)).code, 0, 'it has acted for the user')
  t.equal((await as(user, hidden(mount.pid))).stdout, '')
  t.equal((await asRootOfNamespace(user, hidden(mount.pid))).stdout, '', 'nor to root of a namespace')
  const users = await mountForTest(t, { uid: user })
  t.equal((await as(other, hidden(users.pid))).stdout, '')
  t.equal((await asRootOfNamespace(other, hidden(users.pid))).stdout, '')
  t.not((await as(user, hidden(users.pid))).stdout, '', 'the user whose it is may look')
})

t.test("a user's mount is the user's alone", async (t) => {
  const mount = await mountForTest(t, { uid: user })
  const file = join(mount.dir, 'f')
  await ran('sh', ['-c', `echo mine > ${file}; chmod 666 ${file}; chmod 777 ${mount.dir}`], { uid: user })
  for (const { code, stdout } of [
    await as(other, `cat ${file}`),
    await as(other, `ls ${mount.dir}`),
    await as(0, `cat ${file}`),
    await asRootOfNamespace(other, `cat ${file}`),
  ])
    t.match({ code: code !== 0, stdout }, { code: true, stdout: '' })
  t.equal((await asRootOfNamespace(user, `cat ${file}`)).stdout, 'mine\n', 'whatever the user calls itself')
})

t.test('root of a user namespace is the plain user it was', async (t) => {
  const mount = await mountForTest(t)
  for (const dir of [mount.dir, mount.bare]) {
    chmodSync(dir, 0o777)
    await ran(
      'sh',
      [
        '-c',
        `umask 077; echo secret > roots; mkdir closed; : > closed/f; cp /usr/bin/id suid; chmod 4755 suid`,
      ],
      { cwd: dir },
    )
  }
  const tries = [
    'cat roots',
    'echo x > roots',
    'ls closed',
    'rm -f roots/x closed/f',
    'chmod 666 roots',
    'chown 0:0 roots',
    'touch -d 2001-01-01 roots',
    ': > own',
    'chown 0:0 own',
    'chown 1:1 own',
    'chmod 6755 own',
    'stat -c "%u %g %a" own',
    'mknod null c 1 3',
    'mknod disk b 254 0',
    'setfattr -n trusted.x -v y own',
    'setfattr -n security.x -v y own',
    'setfattr -n user.x -v y roots',
    'setcap cap_setuid+ep own',
    'getcap -n own',
    'chattr +i own',
    'mount -t tmpfs none closed',
    './suid -u',
    'ln roots hard',
    'mv roots moved',
  ]
  const script = `for c in ${tries.map((c) => `'${c}'`).join(' ')}; do echo "$c: $(sh -c "$c" 2>/dev/null) $?"; done; exec stat -c '%n %u %g %a' *`
  const on = async (dir: string) =>
    (await asRootOfNamespace(user, `cd ${dir} && ${script}`)).stdout.split('\n')
  const bare = await on(mount.bare)
  t.ok(bare.length > tries.length)
  t.same(await on(mount.dir), bare, 'as on the bare directory')
  t.equal(
    (await run('getfattr', ['-d', '-m-', '--only-values', join(mount.under, 'own')])).stdout,
    (await run('getfattr', ['-d', '-m-', '--only-values', join(mount.bare, 'own')])).stdout,
  )
  t.equal(readFileSync(join(mount.under, 'moved'), 'utf8'), 'secret\n')
  t.equal(mount.log, '')
})

t.test('set-user-id programs and device nodes are files like any other', async (t) => {
  const mount = await mountForTest(t)
  await ran(
    'sh',
    ['-c', 'cp /usr/bin/id id; chmod 4755 id; mknod -m 666 null c 1 3; mkdir g; chgrp 1234 g; chmod 770 g'],
    { cwd: mount.dir },
  )
  const effective = (file: string) =>
    run('setpriv', [`--reuid=${user}`, `--regid=${user}`, '--clear-groups', file, '-u'])
  t.equal((await effective(join(mount.dir, 'id'))).stdout, `${user}\n`)
  t.match(
    await run('cat', [join(mount.dir, 'null')]),
    { code: 1, stderr: /Permission denied/ },
    'even for root',
  )
  const member = (groups: string) =>
    run('setpriv', [
      `--reuid=${user}`,
      `--regid=${user}`,
      groups,
      'sh',
      '-c',
      `: > ${mount.dir}/g/of${groups.length}`,
    ])
  t.equal((await member('--groups=1234')).code, 0, 'supplementary groups count')
  t.not((await member('--clear-groups')).code, 0)
})
