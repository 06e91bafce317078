import t from 'tap'
import { nameText, pathText } from '../../lib/restore/path-text.js'

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
