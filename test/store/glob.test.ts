import t from 'tap'
import { compileGlob } from '../../lib/store/glob.js'

t.test('patterns match names as the shell does', (t) => {
  const cases: [pattern: string, yes: string[], no: string[]][] = [
    ['*', ['', 'a', '.hidden'], []],
    ['*.txt', ['a.txt', '.txt', 'ä 🌳.txt'], ['a.txt~', 'txt']],
    ['a?c', ['abc', 'a🌳c'], ['ac', 'abbc']],
    ['*a*b*', ['ab', 'xaxbx', 'aab'], ['ba', 'b']],
    ['[a-c]x', ['ax', 'cx'], ['dx', 'x', '[a-c]x']],
    ['[!a-c]x', ['dx'], ['ax', 'x']],
    ['[]]', [']'], ['[']],
    ['[a-]', ['a', '-'], ['b']],
    ['[a', ['[a'], ['a']],
    ['\\*', ['*'], ['a', '\\*']],
    ['a\\', ['a\\'], ['a']],
    ['a.c', ['a.c'], ['abc']],
  ]
  for (const [pattern, yes, no] of cases) {
    const matches = compileGlob(pattern)
    for (const name of yes) t.ok(matches(name), `${pattern} matches ${name}`)
    for (const name of no) t.notOk(matches(name), `${pattern} does not match ${name}`)
  }
  t.throws(() => compileGlob('a/b'), { code: 'usage' })
  t.end()
})

t.test('no pattern takes for ever', (t) => {
  t.notOk(compileGlob(`${'*a'.repeat(100)}b`)('a'.repeat(255)))
  t.end()
})
