import t from 'tap'
import { age, plural, printable, size, table } from '../../lib/cli/output.js'

t.test('sizes', async (t) => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1536, '1.5 KiB'],
    [5 * 2 ** 30, '5.0 GiB'],
    [2 ** 60, '1024.0 PiB'],
  ]
  for (const [bytes, text] of cases) t.equal(size(bytes), text)
})

t.test('ages', async (t) => {
  const now = 1_000_000_000_000
  t.equal(age(null, now), 'never')
  t.equal(age(now, now), 'just now')
  t.equal(age(now - 1000, now), '1 second ago')
  t.equal(age(now - 119_000, now), '1 minute ago')
  t.equal(age(now - 2 * 3_600_000, now), '2 hours ago')
  t.equal(age(now - 50 * 3_600_000, now), '2 days ago')
  t.match(age(now + 5000, now), /future/)
})

t.test('names from outside cannot draw on the terminal', async (t) => {
  t.equal(printable('a\u001b[2Jb\nc\u202ed\u0007'), 'a?[2Jb?c?d?')
  t.equal(printable('Grüße 🎈'), 'Grüße 🎈')
  t.equal(plural(1, 'file'), '1 file')
  t.equal(plural(0, 'file'), '0 files')
})

t.test('tables are aligned', async (t) => {
  const rows = [
    ['one', '1', ''],
    ['three', '333', 'x'],
  ]
  t.equal(table(['NAME', 'N', ''], rows, [1]), 'NAME     N\none      1\nthree  333  x')
})
