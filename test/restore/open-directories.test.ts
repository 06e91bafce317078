import { readdirSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import * as posix from '../../lib/base/posix.js'
import { OpenDirectories, pathOf, type DirectoryHandle } from '../../lib/restore/open-directories.js'

const open = (): number => readdirSync('/proc/self/fd').length

async function chain(t: Test, names: string[], limit: number) {
  const path = await mkdtemp(join(tmpdir(), 'kith-directories-'))
  t.teardown(() => rm(path, { recursive: true, force: true }))
  await mkdir(join(path, ...names), { recursive: true })
  const directories = new OpenDirectories(posix.openRoot(path), limit)
  const handles: DirectoryHandle[] = [directories.root]
  for (const name of names) {
    const parent = handles.at(-1) as DirectoryHandle
    handles.push(directories.useSync(parent, (fd) => directories.child(parent, fd, Buffer.from(name))))
  }
  return { path, directories, handles }
}

t.test('few stay open, and each is found again', async (t) => {
  const names = Array.from({ length: 100 }, (_, i) => `d${i}`)
  const before = open()
  const { directories, handles } = await chain(t, names, 4)
  t.ok(open() <= before + 5)
  for (const handle of [...handles].reverse()) {
    const ino = directories.useSync(handle, (fd) => posix.statFd(fd).ino)
    if (ino !== handle.ino) t.fail('another directory')
  }
  t.same(pathOf(handles[3] as DirectoryHandle).map(String), ['d0', 'd1', 'd2'])
  t.ok(open() <= before + 5)
  directories.closeAll()
  t.equal(open(), before)
})

t.test('one in use stays open whatever happens meanwhile', async (t) => {
  const { directories, handles } = await chain(t, ['a', 'b', 'c', 'd'], 1)
  const [, first] = handles as [DirectoryHandle, DirectoryHandle]
  await directories.use(first, async (fd) => {
    for (const handle of handles) await directories.use(handle, () => undefined)
    directories.done(first)
    t.equal(posix.statFd(fd).ino, first.ino)
  })
  directories.closeAll()
})

t.test('a directory that was moved away, or became a symlink, is refused', async (t) => {
  const { path, directories, handles } = await chain(t, ['a', 'b', 'c', 'd', 'e'], 1)
  const deepest = handles.at(-1) as DirectoryHandle
  for (const handle of handles) directories.done(handle)
  await rename(join(path, 'a'), join(path, 'moved'))
  t.throws(() => directories.useSync(deepest, () => undefined), { code: 'ENOENT' })
  await mkdir(join(path, 'a', 'b', 'c', 'd', 'e'), { recursive: true })
  t.throws(() => directories.useSync(deepest, () => undefined), { code: 'busy' })
  await rm(join(path, 'a'), { recursive: true })
  await symlink('moved', join(path, 'a'))
  t.throws(() => directories.useSync(deepest, () => undefined), { code: 'ENOTDIR' })
  directories.closeAll()
})
