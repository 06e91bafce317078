// What is left out: set, seen, and taken back through the built command, on a mounted directory.
import t from 'tap'
import { mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import type { Item, Result } from '../../lib/daemon/api.js'
import { TestHome } from '../helpers/cli.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'

t.test('excludes', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  const at = (...names: string[]) => join(dir, ...names)
  mkdirSync(at('cache'))
  writeFileSync(at('cache', 'CACHEDIR.TAG'), 'Signature: 8a477f597d28d172789f06886806bc55\n')
  writeFileSync(at('cache', 'x'), 'x')
  for (const name of ['a.c', 'a.o', 'big']) writeFileSync(at(name), name)
  truncateSync(at('big'), 3_000_000)
  await home.ask(['init'])
  const set = ['--exclude', '*.o', '--exclude-caches', '--exclude-larger-than', '2M']
  const bad = await home.kith(['mount', dir, '--exclude-larger-than', 'huge'])
  t.match(
    { code: bad.code, stderr: bad.stderr },
    { code: exitCodes.usage, stderr: /bad size 'huge'; write it like 500M/ },
  )
  await home.ask(['mount', dir, ...set])

  const would = await home.ask<Item<'wouldExclude'>[]>(['exclude', '--dry-run'])
  t.same(
    would.map(({ path, reason }) => `${path} ${reason}`),
    ['a.o pattern', 'big large', 'cache/x cache'],
  )
  const first = await home.kith(['snapshot'])
  t.match(first.stdout, /^left out: 1 name by patterns, 1 cache, 1 file too large$/m)
  t.same(readdirSync(at('.snapshots', 'latest')).sort(), ['a.c', 'cache'])
  t.match((await home.kith(['status'])).stdout, /excluded: +1 name by patterns, 1 cache, 1 file too large/)

  const changed = await home.ask<Result<'exclude'>>([
    ...['exclude', dir, '--remove', '*.o', '--no-exclude-caches'],
    ...['--exclude-larger-than', 'none', '--exclude', 'nothing'],
  ])
  t.match(changed, { patterns: ['nothing'], caches: false, largerThan: null, changed: true })
  t.equal((await home.kith(['exclude', '--remove', '*.o'])).code, exitCodes.notFound)
  writeFileSync(at('.kithignore'), '/cache/\n')
  const second = await home.ask<Result<'snapshot'>>(['snapshot'])
  t.same(second.excluded, { pattern: 1, cache: 0, large: 0 })
  t.same(readdirSync(at('.snapshots', 'latest')).sort(), ['.kithignore', 'a.c', 'a.o', 'big'])

  await home.ask(['stop'])
  t.match(await home.ask(['exclude']), { patterns: ['nothing'], changed: false }, 'kept by the next daemon')
})
