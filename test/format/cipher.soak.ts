/**
 * native/seal/cipher.cc and cipher_broad.cc against libsodium and RFC 8439, by a program of its own: keys that lead to the rare carries cannot be
 * reached through seals, whose keys are hashes.
 */
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

t.setTimeout(240_000)

const root = fileURLToPath(new URL('../../..', import.meta.url))

t.test('all ways make the same bytes, of all lengths and alignments and with all carries', async (t) => {
  const build = await mkdtemp(join(tmpdir(), 'kith-cipher-check-'))
  t.teardown(() => rm(build, { recursive: true, force: true }))
  const program = join(build, 'cipher-check')
  const seal = ['cipher', 'cipher_broad'].map((name) => `native/seal/${name}.cc`)
  const flags = ['-std=c++20', '-O1', '-fsanitize=address', '-Inative/seal']
  const sources = ['test/format/native/cipher-check.cc', ...seal]
  execFileSync('g++', [...flags, ...sources, '-lsodium', '-o', program], { cwd: root })
  const said = execFileSync(program, { encoding: 'utf8' }).trim().split('\n')
  const skipped = said.filter((line) => line.startsWith('skipped: '))
  for (const line of skipped) t.comment(line)
  if (skipped.length === 2) t.match(said.at(-1), /^0 wrong of \d+$/, 'this processor has libsodium only')
  else t.match(said.at(-1), /^0 wrong of [1-9]\d{4}$/)
})
