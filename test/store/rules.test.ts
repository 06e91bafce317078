import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { close, openRoot, statIfAny } from '../../lib/base/posix.js'
import { dependOnPlace, noExcludes, placed, readOwnRules, RuledDirectory } from '../../lib/store/rules.js'
import type { FileStat } from '../../lib/base/posix.js'

const own = (text?: string) => ({
  text: text === undefined ? undefined : Buffer.from(text),
  cache: false,
  problem: undefined,
})
const stat = (mode: number, size = 0) => ({ mode, size }) as FileStat
const file = stat(0o100644)
const directory = stat(0o040755)

/** Whether the path is left out, by the .kithignore files of these directories, as a snapshot asks: from the root down. */
function leftOut(files: Record<string, string>, path: string, patterns: string[] = []): boolean {
  let at = RuledDirectory.root({ ...noExcludes, patterns }, own(files['']))
  const names = path.replace(/\/$/, '').split('/')
  for (let i = 0; i < names.length; i++) {
    const last = i === names.length - 1
    const name = Buffer.from(names[i] as string)
    if (at.leavesOut(name, last && !path.endsWith('/') ? file : directory)) return true
    at = at.child(name, own(files[names.slice(0, i + 1).join('/')]))
  }
  return false
}

t.test('patterns as git has them', async (t) => {
  const cases: [files: Record<string, string>, out: string[], kept: string[]][] = [
    [{ '': '*.o\n' }, ['a.o', 'd/a.o', 'd.o/', 'd.o/x'], ['a.c', 'o', 'a.o.c']],
    [{ '': '/build\n' }, ['build', 'build/', 'build/x'], ['d/build', 'builds']],
    [{ '': 'build/\r\n' }, ['build/', 'd/build/', 'build/x'], ['build', 'd/build']],
    [{ '': '# a comment\n\n\\#no comment\n\\!not' }, ['#no comment', '!not'], ['# a comment', 'not']],
    [{ '': '*\n!keep\n!keep/**' }, ['a', 'b/keep'], ['keep', 'keep/', 'keep/x']],
    [{ '': 'a/**/b\n' }, ['a/b', 'a/x/b', 'a/x/y/b'], ['b', 'x/a/b']],
    [{ '': '*.log\n', d: '!*.log\n' }, ['a.log', 'e/a.log'], ['d/a.log', 'd/e/a.log']],
    [{ '': 'd\n', d: '!x\n' }, ['d/', 'd/x'], ['e/x']],
    [{ '': '', d: 'x\n' }, ['d/x', 'd/e/x'], ['x', 'e/x']],
    [{ '': '', d: '/x\ne/y' }, ['d/x', 'd/e/y'], ['d/e/x', 'd/f/e/y', 'e/y', 'x']],
    [{ '': '', d: '*\n!keep\n' }, ['d/a', 'd/e/', 'd/e/x'], ['d/', 'd/keep', 'a']],
    [{ '': '', d: '**\n!keep\n' }, ['d/a', 'd/e/x'], ['d/', 'd/keep', 'a']],
    [{ '': 'b\n', a: '!b\n' }, ['b', 'c/b'], ['a/b/', 'a/b/c']],
    [{ '': '', 'a*[b]?!\\#': '/x\n' }, ['a*[b]?!\\#/x'], ['a*[b]?!\\#/y', 'aa/x', 'ax[b]y!\\#/e/x']],
    [{ '': '\uFEFFfirst\n' }, ['first'], []],
    [{ '': 'trailing  \n' }, ['trailing'], ['trailing  ']],
    [{ '': 'Case\n' }, ['Case'], ['case']],
  ]
  for (const [files, out, kept] of cases) {
    for (const path of out) t.ok(leftOut(files, path), `${JSON.stringify(files)} leaves ${path} out`)
    for (const path of kept) t.notOk(leftOut(files, path), `${JSON.stringify(files)} keeps ${path}`)
  }
  t.ok(leftOut({}, 'd/x', ['d/x']), 'patterns of the settings')
  t.notOk(leftOut({ '': '!x' }, 'x', ['x']), 'a file overrides the settings')
})

t.test('size counts for files alone', async (t) => {
  const at = RuledDirectory.root({ ...noExcludes, largerThan: 100 }, own())
  t.equal(at.leavesOut(Buffer.from('x'), stat(0o100644, 101)), 'large')
  t.equal(at.leavesOut(Buffer.from('x'), stat(0o100644, 100)), undefined)
  t.equal(at.leavesOut(Buffer.from('x'), stat(0o040755, 4096)), undefined)
})

t.test('names of any bytes', async (t) => {
  const at = RuledDirectory.root({ ...noExcludes, patterns: ['*.o'] }, own())
  t.equal(at.leavesOut(Buffer.from([0xff, 0x2e, 0x6f]), file), 'pattern')
  for (const name of ['..x', '...', ' ', '\n', 'a\nb'])
    t.equal(at.leavesOut(Buffer.from(name), file), undefined)
})

t.test('which patterns depend on where a directory stands', async (t) => {
  t.notOk(dependOnPlace(['*.o', 'build/', '!keep', '!keep/']))
  for (const pattern of ['/build', 'a/b', '!/a', '**/x']) t.ok(dependOnPlace([pattern]), pattern)
  t.same(placed(Buffer.from('x\n/y\n!z\n'), 'd/é 🐙/'), ['/d/é???/**/x', '/d/é???/y', '!/d/é???/**/z'])
})

t.test('what a directory says of itself', async (t) => {
  const dir = t.testdir()
  const of = (name: string, caches = true) => {
    const fd = openRoot(join(dir, name))
    try {
      const found = readOwnRules(fd, caches)
      const listed = [...['.kithignore', 'CACHEDIR.TAG']].flatMap((file) => {
        const stat = statIfAny(fd, Buffer.from(file))
        return stat ? [{ name: Buffer.from(file), stat }] : []
      })
      t.same(readOwnRules(fd, caches, listed), found, 'the same by its listing')
      return found
    } finally {
      close(fd)
    }
  }
  const make = (name: string, files: Record<string, string>) => {
    mkdirSync(join(dir, name))
    for (const [file, text] of Object.entries(files)) writeFileSync(join(dir, name, file), text)
  }
  const signature = 'Signature: 8a477f597d28d172789f06886806bc55'
  make('cache', { 'CACHEDIR.TAG': `${signature}\n# more` })
  t.ok(of('cache').cache)
  t.notOk(of('cache', false).cache, 'not unless it is set')
  make('no cache', { 'CACHEDIR.TAG': 'Signature: 8a477f597d28d172789f06886806bc56' })
  t.notOk(of('no cache').cache)
  make('short', { 'CACHEDIR.TAG': 'Signature' })
  t.notOk(of('short').cache)
  make('rules', { '.kithignore': 'x\n' })
  t.same(of('rules').text, Buffer.from('x\n'))
  make('long', { '.kithignore': 'x\n'.repeat(600_000) })
  t.match(of('long'), { text: undefined, problem: /1 MiB/ })
  make('link', {})
  symlinkSync('../rules/.kithignore', join(dir, 'link/.kithignore'))
  t.equal(of('link').text, undefined, 'a link is not followed')
  make('folder', {})
  mkdirSync(join(dir, 'folder/.kithignore'))
  t.equal(of('folder').text, undefined)
})
