// Programs as people run them, on the live tree.
import t from 'tap'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mountForTest, ran, type TestMount } from '../helpers/fuse-mount.js'

t.setTimeout(580_000)

let mount: TestMount
t.before(async () => {
  mount = await mountForTest(t)
})

/** Runs a shell script in the directory, which it may make first. */
async function sh(dir: string, script: string): Promise<string> {
  mkdirSync(dir, { recursive: true })
  return ran('bash', ['-euo', 'pipefail', '-c', script], { cwd: dir })
}

/** A tree with what archivers must keep. */
const makeTree = `
  mkdir -p a/b/c empty
  for i in $(seq 200); do echo "file $i" > a/b/f$i; done
  head -c 300000 /dev/urandom > a/random
  ln a/random a/b/hard
  ln -s /nowhere a/dangling; ln -s b a/inside
  mkfifo a/fifo
  truncate -s 5M a/sparse; printf end >> a/sparse
  touch -d '2001-02-03 04:05:06.789012345' a/b/f1
  chmod 0 a/b/f2; chmod 4755 a/b/f3; chmod 1777 empty
  chown 1000:1001 a/b/f4
  setfattr -n user.note -v kept a/b/f5
  setfacl -m u:1000:rw a/b/f6
  setfacl -d -m g:1001:rx a/b/c
  touch "a/$(printf 'new\\nline')" "a/$(printf '\\377')"
`

t.test('git: clone, commit, gc, fsck', async (t) => {
  await sh(
    join(mount.bare, 'origin'),
    `git init -q . && git config user.email t@example.org && git config user.name t
     for i in $(seq 30); do mkdir -p d$i; for j in $(seq 10); do echo "$i $j" > d$i/f$j; done; done
     git add . && git commit -qm one && git mv d1 e1 && git commit -qm two`,
  )
  const clone = join(mount.dir, 'clone')
  await ran('git', ['clone', '-q', '--no-hardlinks', join(mount.bare, 'origin'), clone])
  const said = await sh(
    clone,
    `git fsck --strict 2>&1; git config user.email t@example.org; git config user.name t
     git switch -qc work; rm -r d2; echo more >> d3/f1; git add -A; git commit -qm three
     git stash -q 2>/dev/null || true; git rebase -q HEAD~1; git gc -q; git fsck --strict 2>&1; git status --short
     git log --oneline | wc -l`,
  )
  t.equal(said.trim(), '3')
})

t.test('npm ci of a small project', async (t) => {
  const here = join(mount.dir, 'npm')
  const parts = { left: '1.0.0', right: '2.0.0' }
  for (const [name, version] of Object.entries(parts)) {
    mkdirSync(join(here, 'parts', name), { recursive: true })
    writeFileSync(join(here, 'parts', name, 'package.json'), JSON.stringify({ name, version, bin: 'run.js' }))
    writeFileSync(join(here, 'parts', name, 'run.js'), `#!/usr/bin/env node\nconsole.log('${name}')\n`)
    await ran('npm', ['pack', '--silent'], { cwd: join(here, 'parts', name) })
  }
  mkdirSync(join(here, 'project'))
  const dependencies = {
    left: 'file:../parts/left/left-1.0.0.tgz',
    right: 'file:../parts/right/right-2.0.0.tgz',
  }
  const manifest = { name: 'project', version: '1.0.0', scripts: { both: 'left && right' }, dependencies }
  writeFileSync(join(here, 'project', 'package.json'), JSON.stringify(manifest))
  const said = await sh(
    join(here, 'project'),
    `npm install --silent --package-lock-only --offline --cache ../cache
     npm ci --silent --offline --cache ../cache && npm run --silent both`,
  )
  t.equal(said, 'left\nright\n')
})

t.test('gcc: a build by make, run in place', async (t) => {
  const said = await sh(
    join(mount.dir, 'c'),
    `for i in $(seq 20); do echo "int f$i(void) { return $i; }" > f$i.c; done
     { for i in $(seq 20); do echo "int f$i(void);"; done
       echo '#include <stdio.h>'; echo 'int main(void) { int sum = 0;'
       for i in $(seq 20); do echo "sum += f$i();"; done
       echo 'printf("%d\\n", sum); return 0; }'; } > main.c
     printf 'OBJECTS=$(patsubst %%.c,%%.o,$(wildcard *.c))\\nprogram: libf.a\\n\\t$(CC) -o $@ main.o libf.a\\n' > Makefile
     printf 'libf.a: $(OBJECTS)\\n\\tar rcs $@ $(filter-out main.o,$^)\\n' >> Makefile
     make -s -j2 program && ./program && strip program && ./program && make -s program`,
  )
  t.equal(said, '210\n210\n')
})

t.test('sqlite3: 10,000 transactions, in two journal modes', async (t) => {
  for (const mode of ['wal', 'delete']) {
    const count = mode === 'wal' ? 10_000 : 300
    const said = await sh(
      join(mount.dir, 'sqlite'),
      `{ echo 'pragma journal_mode=${mode}; pragma synchronous=${mode === 'wal' ? 'normal' : 'full'}; pragma mmap_size=67108864;'
         echo 'create table t(id integer primary key, text);'
         for i in $(seq ${count}); do echo "begin; insert into t values($i, 'row $i'); commit;"; done
       } | sqlite3 ${mode}.db > /dev/null
       sqlite3 ${mode}.db 'pragma integrity_check; select count(*), sum(id) from t;'`,
    )
    t.equal(said, `ok\n${count}|${(count * (count + 1)) / 2}\n`, mode)
  }
})

t.test('rsync -aHAX, in and out', async (t) => {
  const source = join(mount.bare, 'rsync')
  const inside = join(mount.dir, 'rsync')
  const back = join(mount.bare, 'rsync-back')
  await sh(source, makeTree)
  await ran('rsync', ['-aHAX', '--sparse', `${source}/`, inside])
  await ran('rsync', ['-aHAX', '--sparse', `${inside}/`, back])
  for (const [one, other] of [
    [source, inside],
    [inside, back],
    [back, source],
  ] as const)
    t.equal(await ran('rsync', ['-aHAXnic', '--delete', `${one}/`, other]), '', `${one} is ${other}`)
})

t.test('tar: packed on the mount, unpacked on it, and compared', async (t) => {
  const here = join(mount.dir, 'tar')
  await sh(join(here, 'tree'), makeTree)
  const said = await sh(
    here,
    `tar --xattrs --xattrs-include='*' --acls -S -cf t.tar tree
     mkdir out && tar --xattrs --xattrs-include='*' --acls -xpf t.tar -C out
     rsync -aHAXnic --delete tree/ out/tree; tar -C out -df t.tar`,
  )
  t.equal(said, '')
})

t.test('eight writers at once', async (t) => {
  const writer = `
import hashlib, os, random, sys
number = int(sys.argv[1])
rng = random.Random(number)
os.makedirs(f'own-{number}', exist_ok=True)
sums = {}
for i in range(60):
    name = f'own-{number}/{i % 20}'
    data = rng.randbytes(rng.randrange(1, 300_000))
    with open(name + '.new', 'wb') as file: file.write(data)
    os.rename(name + '.new', name)
    sums[name] = hashlib.sha256(data).hexdigest()
    with open('shared', 'ab', buffering=0) as shared: shared.write(b'%d\\n' % number)
for name, sum in sums.items():
    with open(name, 'rb') as file: assert hashlib.sha256(file.read()).hexdigest() == sum, name
`
  const here = join(mount.dir, 'writers')
  mkdirSync(here)
  const numbers = [0, 1, 2, 3, 4, 5, 6, 7]
  await Promise.all(numbers.map((n) => ran('python3', ['-c', writer, String(n)], { cwd: here })))
  const lines = readFileSync(join(here, 'shared'), 'utf8').trim().split('\n')
  for (const n of numbers) t.equal(lines.filter((line) => line === String(n)).length, 60)
  t.equal(readdirSync(here).length, 9)
  const under = join(mount.under, 'writers')
  t.equal(await ran('rsync', ['-anic', '--delete', `${here}/`, under]), '')
})

t.test('nothing was complained about', async (t) => {
  t.equal(mount.log, '')
})
