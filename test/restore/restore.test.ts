import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import * as posix from '../../lib/base/posix.js'
import type { Entry } from '../../lib/format/entry.js'
import { temporaryPrefix } from '../../lib/restore/place.js'
import { RestoreIncomplete, restoreTree, type RestoreProgress } from '../../lib/restore/restore.js'
import { BuiltSnapshot, made, madeSymlink } from '../helpers/built-snapshot.js'
import { makeTree, seededBytes } from '../helpers/made-tree.js'
import { compareTrees, describeTree, type Described } from '../helpers/tree.js'

const isRoot = process.geteuid?.() === 0

/** A scratch directory that goes away whatever its modes and its depth, which node:fs cannot do. */
async function scratch(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'kith-restore-test-'))
  t.teardown(() => execFileSync('rm', ['-rf', path]))
  return path
}

const small = { bigBytes: 9_000_000, sparseBytes: 16 * 1024 * 1024, wideEntries: 600, depth: 60 }

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

t.test('a tree of everything comes back as it was', async (t) => {
  const dir = await scratch(t)
  makeTree(join(dir, 'before'), { ...small, acls: isRoot })
  const snapshot = new BuiltSnapshot()
  const root = await snapshot.directoryAt(join(dir, 'before'))
  const reports: RestoreProgress[] = []
  const before = openDescriptors()
  const result = await restoreTree(snapshot.reader, root, join(dir, 'new', 'after'), {
    progress: (report) => reports.push(report),
  })
  t.equal(openDescriptors(), before, 'no descriptor is left open')
  const was = await describeTree(join(dir, 'before'))
  t.same(compareTrees(was, await describeTree(join(dir, 'new', 'after'))), [])
  t.match(result, { path: join(dir, 'new', 'after'), files: root.totals.files, skipped: 0, notes: [] })
  t.equal(result.bytes, root.totals.bytes)
  t.equal(result.directories, was.filter((entry) => entry.type === 'directory').length)
  const last = reports.at(-1)
  t.same(last, {
    files: root.totals.files,
    bytes: root.totals.bytes,
    totalFiles: root.totals.files,
    totalBytes: root.totals.bytes,
  })
  t.ok(reports.length > 5, 'progress on the way')
})

t.test('a path deeper than PATH_MAX', async (t) => {
  const dir = await scratch(t)
  makeTree(join(dir, 'before'), { bigBytes: 1, sparseBytes: 100_000, wideEntries: 1, depth: 600 })
  const snapshot = new BuiltSnapshot()
  const root = await snapshot.directoryAt(join(dir, 'before'))
  const before = openDescriptors()
  let most = 0
  await restoreTree(snapshot.reader, root, join(dir, 'after'), {
    progress: () => (most = Math.max(most, openDescriptors())),
  })
  t.ok(most < before + 100, `few descriptors at once: ${most - before}`)
  t.same(compareTrees(await describeTree(join(dir, 'before')), await describeTree(join(dir, 'after'))), [])
})

t.test('a single file, by its path or into a directory', async (t) => {
  const dir = await scratch(t)
  const snapshot = new BuiltSnapshot()
  const content = seededBytes(3, 700_000)
  const file = snapshot.file(made('name', { mode: 0o4750 }), content)
  t.match(await restoreTree(snapshot.reader, file, join(dir, 'deep/er/other')), {
    path: join(dir, 'deep/er/other'),
    files: 1,
    directories: 0,
  })
  t.same(await readFile(join(dir, 'deep/er/other')), content)
  await mkdir(join(dir, 'into'))
  t.match(await restoreTree(snapshot.reader, file, join(dir, 'into')), { path: join(dir, 'into/name') })
  const [described] = (await describeTree(join(dir, 'into'))).slice(1)
  t.match(described, { path: 'name', mode: 0o4750, mtimeNs: 1_700_000_000_000_000_001n })
  await t.rejects(restoreTree(snapshot.reader, file, join(dir, 'into')), { code: 'exists' })
  await t.rejects(restoreTree(snapshot.reader, file, join(dir, 'into/name/below')), { code: 'exists' })
})

t.test('nothing is overwritten unless told, and nothing is written before that is known', async (t) => {
  const dir = await scratch(t)
  const snapshot = new BuiltSnapshot()
  const root = snapshot.directory(made('', { mode: 0o755 }), [
    snapshot.file(made('a'), Buffer.from('new a')),
    snapshot.directory(made('sub', { mode: 0o700 }), [
      snapshot.file(made('b\n'), Buffer.from('new b')),
      snapshot.file(made('c'), Buffer.from('new c')),
    ]),
  ])
  await mkdir(join(dir, 'sub'), { mode: 0o755 })
  await writeFile(join(dir, 'sub', 'b\n'), 'mine')
  await writeFile(join(dir, 'unrelated'), 'mine')
  const was = await describeTree(dir)
  await t.rejects(restoreTree(snapshot.reader, root, dir), {
    code: 'exists',
    message: /sub\/b\\x0a exists already, and nothing was written/,
  })
  t.same(compareTrees(was, await describeTree(dir)), [])

  await rm(join(dir, 'sub', 'b\n'))
  await restoreTree(snapshot.reader, root, dir)
  t.equal(await readFile(join(dir, 'sub', 'b\n'), 'utf8'), 'new b')
  t.equal(await readFile(join(dir, 'unrelated'), 'utf8'), 'mine')
  const merged = (await describeTree(dir)).find((entry) => entry.path === 'sub')
  t.equal(merged?.mode, 0o755, 'a directory that was there keeps its own mode')

  await restoreTree(snapshot.reader, root, dir, { overwrite: 'always' })
  t.equal((await describeTree(dir)).find((entry) => entry.path === 'sub')?.mode, 0o700, 'unless told')
})

t.test('a file is no directory', async (t) => {
  const dir = await scratch(t)
  const snapshot = new BuiltSnapshot()
  const sub = snapshot.directory(made('x', { mode: 0o755 }), [snapshot.file(made('f'), Buffer.from('f'))])
  const withDirectory = snapshot.directory(made('', { mode: 0o755 }), [sub])
  const withFile = snapshot.directory(made('', { mode: 0o755 }), [
    snapshot.file(made('x'), Buffer.from('file')),
    snapshot.file(made('y'), Buffer.from('other')),
  ])
  await writeFile(join(dir, 'file'), '')
  await t.rejects(restoreTree(snapshot.reader, withFile, join(dir, 'file')), { code: 'exists' })
  await t.rejects(restoreTree(snapshot.reader, withFile, join(dir, 'file/below')), { code: 'exists' })

  await restoreTree(snapshot.reader, withDirectory, join(dir, 'to'))
  await t.rejects(restoreTree(snapshot.reader, withFile, join(dir, 'to'), { overwrite: 'never' }), {
    code: 'exists',
  })
  const error = await restoreTree(snapshot.reader, withFile, join(dir, 'to'), { overwrite: 'always' }).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  t.type(error, RestoreIncomplete)
  t.match(error, { code: 'exists', failed: 1, failures: [{ path: 'x' }], result: { files: 1 } })
  t.equal(await readFile(join(dir, 'to/x/f'), 'utf8'), 'f', 'no directory is replaced')
  t.equal(await readFile(join(dir, 'to/y'), 'utf8'), 'other', 'the rest is restored')

  await restoreTree(snapshot.reader, withFile, join(dir, 'to2'))
  await restoreTree(snapshot.reader, withDirectory, join(dir, 'to2'), { overwrite: 'always' })
  t.equal(await readFile(join(dir, 'to2/x/f'), 'utf8'), 'f', 'a file gives way to a directory when told')
})

t.test('if-changed leaves the same alone and replaces the rest', async (t) => {
  const dir = await scratch(t)
  makeTree(join(dir, 'before'), { ...small, wideEntries: 50, bigBytes: 2_000_000 })
  const snapshot = new BuiltSnapshot()
  const root = await snapshot.directoryAt(join(dir, 'before'))
  const after = join(dir, 'after')
  await restoreTree(snapshot.reader, root, after)
  const chunk = join(after, 'sizes', '65537 bytes')
  const inode = (name: string): bigint => {
    const fd = posix.openRoot(join(after, 'sizes'))
    const { ino } = posix.statAt(fd, Buffer.from(name))
    posix.close(fd)
    return ino
  }
  const [changed, same] = [inode('65537 bytes'), inode('4096 bytes')]
  await writeFile(chunk, 'changed')
  await rm(join(after, 'links', 'two'))
  await writeFile(join(after, 'links', 'two'), 'one file, three names')
  const fd = posix.openRoot(after)
  posix.chmodAt(fd, Buffer.from('big'), 0o600)
  posix.setXattrAt(fd, Buffer.from('big'), Buffer.from('user.added'), Buffer.from('x'))
  posix.close(fd)
  const result = await restoreTree(snapshot.reader, root, after, { overwrite: 'if-changed' })
  t.same(compareTrees(await describeTree(join(dir, 'before')), await describeTree(after)), [])
  t.not(inode('65537 bytes'), changed)
  t.equal(inode('4096 bytes'), same)
  t.ok(result.skipped > 50 && result.skipped < result.files, `${result.skipped} of ${result.files} skipped`)
})

t.test('no symlink in the target is followed', async (t) => {
  const dir = await scratch(t)
  await mkdir(join(dir, 'outside'))
  await mkdir(join(dir, 'to'))
  await writeFile(join(dir, 'outside', 'f'), 'outside')
  await symlink('../outside', join(dir, 'to', 'sub'))
  await symlink('../outside/f', join(dir, 'to', 'g'))
  const snapshot = new BuiltSnapshot()
  const root = snapshot.directory(made('', { mode: 0o755 }), [
    snapshot.directory(made('sub', { mode: 0o755 }), [snapshot.file(made('f'), Buffer.from('inside'))]),
    snapshot.file(made('g'), Buffer.from('inside')),
    madeSymlink('h', '../outside/f'),
  ])
  await t.rejects(restoreTree(snapshot.reader, root, join(dir, 'to')), { code: 'exists' })
  await restoreTree(snapshot.reader, root, join(dir, 'to'), { overwrite: 'always' })
  t.equal(await readFile(join(dir, 'outside', 'f'), 'utf8'), 'outside')
  t.same(readdirSync(join(dir, 'outside')), ['f'])
  t.equal(await readFile(join(dir, 'to', 'sub', 'f'), 'utf8'), 'inside')
  t.equal(await readFile(join(dir, 'to', 'g'), 'utf8'), 'inside')
})

t.test('a damaged, swapped or missing block never reaches a file; the others are restored', async (t) => {
  const dir = await scratch(t)
  const snapshot = new BuiltSnapshot()
  const files = Array.from({ length: 12 }, (_, i) => snapshot.file(made(`f${i}`), seededBytes(i, 600_000)))
  const chunkNames = (entry: Entry): string[] =>
    entry.type === 'file' && entry.content.kind === 'extents'
      ? entry.content.extents.flatMap((e) => (e.kind === 'chunk' ? [e.chunk.name.toString('hex')] : []))
      : []
  const root = snapshot.directory(made('', { mode: 0o755 }), files)
  const at = (file: number, chunk: number): string => chunkNames(files[file] as Entry)[chunk] ?? ''
  const block = (name: string): Buffer => Buffer.from(snapshot.blocks.get(name) ?? Buffer.alloc(0))
  const flipped = block(at(1, 2))
  flipped[500] = (flipped[500] ?? 0) ^ 1
  snapshot.blocks.set(at(1, 2), flipped)
  snapshot.blocks.set(at(3, 1), block(at(4, 1)))
  snapshot.blocks.set(at(5, 0), block(at(5, 0)).subarray(0, 1000))
  snapshot.blocks.delete(at(7, 2))
  const error: unknown = await restoreTree(snapshot.reader, root, join(dir, 'to')).catch(
    (thrown: unknown) => thrown,
  )
  t.type(error, RestoreIncomplete)
  t.match(error, { code: 'damaged', failed: 4, result: { files: 8 } })
  if (error instanceof RestoreIncomplete)
    t.same(error.failures.map(({ path }) => path).sort(), ['f1', 'f3', 'f5', 'f7'])
  t.same(readdirSync(join(dir, 'to')).sort(), ['f0', 'f10', 'f11', 'f2', 'f4', 'f6', 'f8', 'f9'])
  for (const i of [0, 2, 4, 6, 8, 9, 10, 11])
    t.same(await readFile(join(dir, 'to', `f${i}`)), seededBytes(i, 600_000))
})

t.test('a directory whose node is damaged is named, and the others are restored', async (t) => {
  const dir = await scratch(t)
  const snapshot = new BuiltSnapshot()
  const lost = snapshot.directory(made('lost', { mode: 0o755 }), [snapshot.file(made('f'), Buffer.from('x'))])
  const kept = snapshot.directory(made('kept', { mode: 0o755 }), [snapshot.file(made('f'), Buffer.from('y'))])
  const root = snapshot.directory(made('', { mode: 0o755 }), [lost, kept])
  snapshot.blocks.delete(lost.node.name.toString('hex'))
  await t.rejects(restoreTree(snapshot.reader, root, join(dir, 'to')), {
    code: 'damaged',
    failures: [{ path: 'lost', code: 'damaged' }],
  })
  t.equal(await readFile(join(dir, 'to/kept/f'), 'utf8'), 'y')
})

t.test('hard links follow the snapshot, not the number alone', async (t) => {
  const dir = await scratch(t)
  const snapshot = new BuiltSnapshot()
  const two = { ino: 1_000_000n, nlink: 2 }
  const root = snapshot.directory(made('', { mode: 0o755 }), [
    snapshot.file(made('a', two), Buffer.from('same')),
    snapshot.file(made('b', two), Buffer.from('same')),
    snapshot.file(made('c', two), Buffer.from('another state')),
    snapshot.file(made('alone', { ino: 1_000_001n, nlink: 5 }), Buffer.from('its other names are elsewhere')),
  ])
  await restoreTree(snapshot.reader, root, join(dir, 'to'))
  const all = await describeTree(join(dir, 'to'))
  t.same(
    all.map(({ path, link }) => `${path} ${link}`),
    ['. ', 'a a', 'alone ', 'b a', 'c '],
  )
})

t.test('stopping leaves whole files only', async (t) => {
  const dir = await scratch(t)
  const snapshot = new BuiltSnapshot()
  const files = Array.from({ length: 200 }, (_, i) => snapshot.file(made(`f${i}`), seededBytes(i, 300_000)))
  const root = snapshot.directory(made('', { mode: 0o755 }), files)
  const stop = new AbortController()
  await t.rejects(
    restoreTree(snapshot.reader, root, join(dir, 'to'), {
      signal: stop.signal,
      progress: ({ bytes }) => {
        if (bytes > 5_000_000) stop.abort()
      },
    }),
    { code: 'cancelled' },
  )
  const left = readdirSync(join(dir, 'to'))
  t.ok(left.length > 5 && left.length < 200, `${left.length} files`)
  t.notOk(left.some((name) => name.startsWith(temporaryPrefix)))
  for (const name of left)
    t.same(await readFile(join(dir, 'to', name)), seededBytes(Number(name.slice(1)), 300_000))
  await t.rejects(restoreTree(snapshot.reader, root, join(dir, 'to2'), { signal: stop.signal }), {
    code: 'cancelled',
  })
  t.notOk(existsSync(join(dir, 'to2')))
})

t.test('sockets are left out with a note; busy files are named', async (t) => {
  const dir = await scratch(t)
  await mkdir(join(dir, 'before'))
  const server = createServer()
  t.teardown(() => server.close())
  await new Promise<void>((resolve) => server.listen(join(dir, 'before', 'socket'), resolve))
  const snapshot = new BuiltSnapshot()
  const result = await restoreTree(
    snapshot.reader,
    await snapshot.directoryAt(join(dir, 'before')),
    join(dir, 'after'),
  )
  t.match(result, { files: 0, notes: [/^one socket was left out/] })
  const busy = snapshot.file(made('busy', { busy: true }), Buffer.from('x'))
  t.match(await restoreTree(snapshot.reader, busy, join(dir, 'busy')), {
    notes: [/^one file was being written/],
  })
})

t.test('devices, capabilities and other owners, as root', { skip: !isRoot }, async (t) => {
  const dir = await scratch(t)
  const before = join(dir, 'before')
  await mkdir(before)
  const fd = posix.openRoot(before)
  posix.mknodAt(fd, Buffer.from('null'), 0o020_666, 0x103n)
  posix.mknodAt(fd, Buffer.from('loop'), 0o060_660, 0x700n)
  await writeFile(join(before, 'tool'), 'x')
  posix.chownAt(fd, Buffer.from('tool'), 77, 88)
  // cap_net_raw=ep, in the kernel's second revision of the attribute
  const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex')
  posix.setXattrAt(fd, Buffer.from('tool'), Buffer.from('security.capability'), capability)
  posix.close(fd)
  const snapshot = new BuiltSnapshot()
  await restoreTree(snapshot.reader, await snapshot.directoryAt(before), join(dir, 'after'))
  const after = await describeTree(join(dir, 'after'))
  t.same(compareTrees(await describeTree(before), after), [])
  t.match(after.find(({ path }) => path === 'tool')?.xattrs, [/^security.capability=01000002/])
})

t.test('an ACL that the target hands down does not stay on restored files', { skip: !isRoot }, async (t) => {
  const dir = await scratch(t)
  makeTree(join(dir, 'before'), { ...small, bigBytes: 1, wideEntries: 10, acls: true })
  const snapshot = new BuiltSnapshot()
  const root = await snapshot.directoryAt(join(dir, 'before'))
  await mkdir(join(dir, 'around'))
  const fd = posix.openRoot(join(dir, 'around'))
  const inherited = Buffer.from(
    '020000000100060 0ffffffff02000600e803000004000600ffffffff10000600ffffffff20000000ffffffff'.replace(
      ' ',
      '',
    ),
    'hex',
  )
  posix.setXattrFd(fd, Buffer.from('system.posix_acl_default'), inherited)
  posix.close(fd)
  await restoreTree(snapshot.reader, root, join(dir, 'around', 'after'))
  t.same(
    compareTrees(await describeTree(join(dir, 'before')), await describeTree(join(dir, 'around', 'after'))),
    [],
  )
})

t.test(
  'without privilege: bytes, modes and times come back, owners are reported',
  { skip: !isRoot },
  async (t) => {
    const dir = await scratch(t)
    makeTree(join(dir, 'before'), { ...small, bigBytes: 1_000_000, wideEntries: 20 })
    const fd = posix.openRoot(join(dir, 'before'))
    posix.mknodAt(fd, Buffer.from('null'), 0o020_666, 0x103n)
    // Two names in a directory that nobody may enter once it is restored, and one outside.
    posix.mkdirAt(fd, Buffer.from('locked'))
    await writeFile(join(dir, 'before/locked/a'), 'linked')
    const locked = posix.openDirectoryAt(fd, Buffer.from('locked'))
    posix.linkAt(locked, Buffer.from('a'), fd, Buffer.from('z'))
    posix.close(locked)
    posix.chmodAt(fd, Buffer.from('locked'), 0)
    posix.close(fd)
    const snapshot = new BuiltSnapshot()
    const root = await snapshot.directoryAt(join(dir, 'before'))
    await chmod(dir, 0o777)
    const nobody = 65_534
    process.setegid?.(nobody)
    process.seteuid?.(nobody)
    const result = await restoreTree(snapshot.reader, root, join(dir, 'after')).finally(() => {
      process.seteuid?.(0)
      process.setegid?.(0)
    })
    t.match(
      result.notes.join('\n'),
      /owners of \d+ files could not be set[^]*lost their setuid[^]*one device file was left out/,
    )
    const plain = (described: Described[]): Described[] =>
      described
        .filter(({ path }) => path !== 'null')
        .map((entry) => ({
          ...entry,
          uid: 0,
          gid: 0,
          mode: entry.mode & 0o1777,
          link: entry.path === 'z' ? '' : entry.link.replace('locked/a', ''),
        }))
    const after = await describeTree(join(dir, 'after'))
    t.same(compareTrees(plain(await describeTree(join(dir, 'before'))), plain(after)), [])
    t.ok(
      after.every(({ uid, mode }) => uid === nobody && (mode & 0o6000) === 0),
      'nobody gets rights by them',
    )
  },
)
