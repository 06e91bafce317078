/**
 * native/seal/hashes.cc against libsodium, by a program of its own: through the addon only the fastest side of this processor
 * can be reached.
 */
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

t.setTimeout(240_000)

const root = fileURLToPath(new URL('../../..', import.meta.url))

t.test('all sides make the same hashes, of all lengths and numbers of messages', async (t) => {
  const build = await mkdtemp(join(tmpdir(), 'kith-hashes-check-'))
  t.teardown(() => rm(build, { recursive: true, force: true }))
  const program = join(build, 'hashes-check')
  const seal = ['seal', 'cipher', 'cipher_broad', 'guess', 'hashes'].map((name) => `native/seal/${name}.cc`)
  const flags = ['-std=c++20', '-O1', '-fsanitize=address', '-Inative/seal']
  const sources = ['test/format/native/hashes-check.cc', ...seal]
  execFileSync('g++', [...flags, ...sources, '-lsodium', '-lzstd', '-o', program], { cwd: root })
  const said = execFileSync(program, { encoding: 'utf8' }).trim().split('\n')
  for (const skipped of said.slice(0, -1)) t.comment(skipped)
  t.match(said.at(-1), /^0 wrong of [1-9]\d{4}$/)
})
