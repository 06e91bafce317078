import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Entry } from '../../lib/format/entry.js'
import { FilteredSource, type Filter } from '../../lib/restore/filter.js'
import { restoreTree } from '../../lib/restore/restore.js'
import { MemoryVolume, type Tree } from '../helpers/memory-volume.js'

function scratch(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'kith-filter-test-'))
  t.teardown(() => rmSync(path, { recursive: true }))
  return path
}

const file = { file: Buffer.from('x') }

function taken(tree: Tree) {
  const volume = new MemoryVolume()
  volume.take(1000, tree)
  const root = volume.records[0]?.root
  if (!root) throw new Error('a snapshot has a root')
  return { reader: volume.reader(), root }
}

async function namesOf(source: FilteredSource, directory: Entry, path = ''): Promise<string[]> {
  const names: string[] = []
  let after: Buffer | undefined
  for (;;) {
    const page = await source.list(directory, after, 2) // a short one, so that pages meet what is left out
    for (const entry of page) {
      const at = path + entry.name.toString('latin1')
      names.push(at)
      if (entry.type === 'directory') names.push(...(await namesOf(source, entry, `${at}/`)))
    }
    if (page.length < 2) return names
    after = page.at(-1)?.name
  }
}

t.test('what is chosen comes, with the directories on the way', async (t) => {
  const photos = { directory: { 'a.jpg': file, 'a.raw': file, deep: { directory: { 'b.jpg': file } } } }
  const { reader, root } = taken({
    '...': file,
    'A.JPG': file,
    cache: { directory: { photos, 'x.jpg': file } },
    empty: { directory: {} },
    notes: { directory: { 'n.txt': file } },
    photos,
    'x\xff.jpg': file,
  })
  const names = (filter: Partial<Filter>) => {
    const source = new FilteredSource(reader, root, { include: [], exclude: [], ...filter })
    return namesOf(source, source.root)
  }
  t.same(await names({ include: ['*.jpg'], exclude: ['/cache/'] }), [
    'photos',
    'photos/a.jpg',
    'photos/deep',
    'photos/deep/b.jpg',
    'x\xff.jpg',
  ])
  t.same(await names({ include: ['deep/', 'empty'] }), [
    'cache',
    'cache/photos',
    'cache/photos/deep',
    'cache/photos/deep/b.jpg',
    'empty',
    'photos',
    'photos/deep',
    'photos/deep/b.jpg',
  ])
  t.same(await names({ include: ['/photos/*.raw', '...'] }), ['...', 'photos', 'photos/a.raw'])
  const texts = await names({ exclude: ['*', '!*.txt', '!*/'] })
  t.same(
    texts.filter((name) => name.includes('.') || name === 'empty'),
    ['empty', 'notes/n.txt'],
    'directories that are not excluded come',
  )
  t.same(await names({ include: ['nothing'] }), [])
  t.equal((await names({})).length, 18, 'without patterns everything')
})

t.test('a restore by patterns; none for a single file', async (t) => {
  const to = join(scratch(t), 'to')
  const { reader, root } = taken({ 'a.txt': file, b: { directory: { 'c.txt': file, 'c.o': file } } })
  const filter = { include: [], exclude: ['*.o'] }
  t.match(await restoreTree(reader, root, to, { filter }), { files: 2, directories: 2 })
  t.same(readdirSync(join(to, 'b')), ['c.txt'])
  const single = await reader.resolve(root, [Buffer.from('a.txt')])
  await t.rejects(restoreTree(reader, single, join(to, 'new'), { filter }), { code: 'usage' })
})

t.test('what a killed restore left goes; what one that runs has stays', async (t) => {
  const to = join(scratch(t), 'to')
  const { reader, root } = taken({ a: file, b: { directory: { c: file } } })
  await restoreTree(reader, root, to)
  const [dead, link, live] = ['0', '1', '2z'].map((n) => join(to, 'b', `.kith-restore-0123456789ab-${n}`))
  if (!dead || !link || !live) throw new Error('three names')
  const others = ['.kith-restore-mine', '.kith-restore-0123456789ab-'].map((name) => join(to, name))
  for (const path of [dead, live, ...others]) writeFileSync(path, 'part')
  symlinkSync('nowhere', link)
  mkdirSync(join(to, '.kith-restore-0123456789ab-3'))
  const holder = spawn('flock', ['-x', live, 'sh', '-c', 'echo held; exec cat'])
  await new Promise((resolve) => holder.stdout.once('data', resolve))
  t.match(await restoreTree(reader, root, to, { overwrite: 'if-changed' }), { files: 2, skipped: 2 })
  t.same([dead, link].filter(existsSync), [])
  t.same(readdirSync(join(to, 'b')), ['.kith-restore-0123456789ab-2z', 'c'])
  t.same([...others, join(to, '.kith-restore-0123456789ab-3')].filter(existsSync).length, 3)
  const gone = new Promise((resolve) => holder.once('close', resolve))
  holder.stdin.end()
  await gone
  await restoreTree(reader, root, to, { overwrite: 'always' })
  t.same(readdirSync(join(to, 'b')), ['c'])
})
