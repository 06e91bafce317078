import t from 'tap'
import { isText, nameText, parseNameText, pathText } from '../../lib/base/path-text.js'

t.test('readable, on one line, and different for different names', (t) => {
  t.equal(nameText(Buffer.from('Bäume 🌳')), 'Bäume 🌳')
  t.equal(nameText(Buffer.from('a\nb\x1b[0m')), 'a\\x0ab\\x1b[0m')
  t.equal(nameText(Buffer.from([0x41, 0xff, 0x0a])), 'A\\xff\\x0a')
  t.equal(nameText(Buffer.from('a\\x0a')), 'a\\x5cx0a', 'what looks like an escape is not one')
  t.equal(nameText(Buffer.from('\u0085')), '\\xc2\\x85')
  t.equal(pathText([Buffer.from('a'), Buffer.from('b c')]), 'a/b c')
  const long = pathText(Array.from({ length: 1000 }, () => Buffer.from('x'.repeat(200))))
  t.ok(long.length < 1100 && long.includes(' ... '))
  t.end()
})

t.test('and back', (t) => {
  for (const name of ['a', 'a\\x41', 'Bäume 🌳\n', '\\', '\u0085'])
    t.same(parseNameText(nameText(Buffer.from(name))) ?? Buffer.from(name), Buffer.from(name))
  const bytes = Buffer.from([0x41, 0xff, 0x5c, 0x0a])
  t.same(parseNameText(nameText(bytes)), bytes)
  t.equal(parseNameText('plain'), undefined)
  t.ok(isText(Buffer.from('ä')))
  t.notOk(isText(bytes))
  t.end()
})
