// What the linter cannot see of STYLE: heads of files, dead files, lengths in C++.
import t from 'tap'
import { basename, dirname, join, normalize } from 'node:path'
import { sources, text } from '../helpers/sources.js'

const maxLines = 600
const native = ['.cc', '.h', '.ts', '.sh'] as const

t.test('every source file says at its head what it is for', (t) => {
  const heads: [string[], RegExp][] = [
    [sources('lib', '.ts'), /^(#!.*\n)?(\/\*\*|\/\/)/],
    [sources('bench', '.ts', '.cc'), /^(\/\*\*|\/\/)/],
    [sources('simulate', '.ts'), /^(\/\*\*|\/\/)/],
    [sources('native', '.cc', '.h', '.ts'), /^(#pragma once\n+)?(\/\*\*|\/\/)/],
    [sources('native', '.sh'), /^#!.*\n#/],
  ]
  for (const [files, head] of heads) {
    t.ok(files.length > 0)
    t.same(
      files.filter((file) => !head.test(text(file))),
      [],
    )
  }
  t.end()
})

t.test(`no file has more than ${maxLines} lines`, (t) => {
  const files = [...sources('lib', '.ts'), ...sources('native', ...native), ...sources('bench', '.ts', '.cc')]
  files.push(...sources('simulate', '.ts'))
  t.same(
    files.filter((file) => text(file).split('\n').length > maxLines + 1),
    [],
  )
  t.end()
})

t.test('every file of lib is used by another one', (t) => {
  const files = sources('lib', '.ts')
  const users = [
    ...files,
    ...sources('scripts', '.ts', '.mjs'),
    ...sources('bench', '.ts'),
    ...sources('simulate', '.ts'),
  ]
  const used = new Set(['lib/cli/main.ts'])
  for (const user of users)
    for (const [, path = ''] of text(user).matchAll(/['"](\.{1,2}\/[^'"]+)\.js['"]/g))
      used.add(`${normalize(join(dirname(user), path))}.ts`)
  t.same(
    files.filter((file) => !used.has(file)),
    [],
  )
  t.end()
})

t.test('every test is named after the file or the subject it tests, and none is left out of a run', (t) => {
  const files = sources('test', '.ts').filter((file) => !/\.(test|soak)\.ts$/.test(file))
  const strays = files.filter((file) => !file.startsWith('test/helpers/') && /from 'tap'/.test(text(file)))
  t.same(strays, [], 'files that use tap end in .test.ts or .soak.ts')
  const helpers = files.filter((file) => file.startsWith('test/helpers/'))
  const all = sources('test', '.ts').map(text).join('\n')
  t.same(
    helpers.filter((file) => !all.includes(`${basename(file, '.ts')}.js`)),
    [],
    'every helper is used',
  )
  t.end()
})

t.test('no test and no source waits for later', (t) => {
  const files = [...sources('lib', '.ts'), ...sources('native', ...native), ...sources('test', '.ts')]
  const marks = new RegExp(
    `\\b(${['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'].join('|')})\\b|\\bt\\.(skip|only|todo)\\(`,
  )
  t.same(
    files.filter((file) => marks.test(text(file))),
    [],
  )
  t.end()
})
