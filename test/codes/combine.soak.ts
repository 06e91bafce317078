/**
 * native/codes against ISA-L's plain loop, by a program of its own: through the addon only the fastest way of this processor can
 * be reached.
 */
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

t.setTimeout(240_000)

const root = fileURLToPath(new URL('../../..', import.meta.url))

t.test('all ways make the same elements, of all layouts, losses and lengths', async (t) => {
  const build = await mkdtemp(join(tmpdir(), 'kith-codes-check-'))
  t.teardown(() => rm(build, { recursive: true, force: true }))
  const program = join(build, 'codes-check')
  const codes = ['combine', 'library', 'xors'].map((name) => `native/codes/${name}.cc`)
  const flags = ['-std=c++20', '-O1', '-fsanitize=address', '-Inative/codes']
  execFileSync('g++', [...flags, 'test/codes/native/codes-check.cc', ...codes, '-ldl', '-o', program], {
    cwd: root,
  })
  const said = execFileSync(program, { encoding: 'utf8' }).trim().split('\n')
  for (const skipped of said.slice(0, -1)) t.comment(skipped)
  t.match(said.at(-1), /^0 wrong of [1-9]\d{3}/)
})
