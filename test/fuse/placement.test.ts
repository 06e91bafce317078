// Threads that serve requests over io_uring have policy SCHED_IDLE at times: when, by the policy alone, and that a real
// mount's threads are given it and lose it again.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { ran, testProgram } from '../helpers/fuse-mount.js'
import { lacking, mounted, rings } from '../helpers/io-uring.js'

t.setTimeout(280_000)

const build = mkdtempSync(join(tmpdir(), 'kith-placement-'))
t.teardown(() => rmSync(build, { recursive: true, force: true }))

/** What is seen: requests served in every 2 ms, threads that run. */
type Seen = readonly [served: number, running: number, processors?: number]

interface Answer {
  ms: number
  yields: boolean
}

let program: string | undefined

/** What native/kith-fuse/placement.h answers, look by look; there are two processors where nothing is said. */
function answers(looks: readonly Seen[]): Answer[] {
  if (program === undefined) {
    program = join(build, 'yield-policy')
    const flags = ['-std=c++20', '-Wall', '-Wextra', '-Werror', '-fsanitize=undefined', '-Inative/kith-fuse']
    execFileSync('g++', [...flags, 'test/fuse/native/yield-policy.cc', '-o', program])
  }
  const input = looks.map(([served, running, processors = 2]) => `${served} ${running} ${processors}\n`)
  const lines = execFileSync(program, { input: input.join(''), encoding: 'utf8' })
    .trim()
    .split('\n')
  return lines.map((line) => ({ ms: parseInt(line) / 1000, yields: line.endsWith('1') }))
}

function times(count: number, ...looks: Seen[]): Seen[] {
  return Array.from({ length: count }, () => looks).flat()
}

function text(answers: readonly Answer[]): string {
  return answers.map(({ yields }) => (yields ? 'y' : '.')).join('')
}

function pauses(answers: readonly Answer[]): number[] {
  return answers.map(({ ms }, i) => ms - (answers[i - 1]?.ms ?? 0))
}

t.test('while many are served and a processor is idle', (t) => {
  const found = answers([...times(3, [7, 1]), ...times(4, [8, 1]), ...times(2, [7, 1])])
  t.equal(text(found), '...yyyy..')
  t.same(pauses(found), [20, 20, 20, 20, 2, 2, 2, 2, 40])
  t.equal(text(answers(times(20, [1000, 2]))), '.'.repeat(20), 'never when all processors are busy')
  t.equal(text(answers(times(20, [1000, 15]))), '.'.repeat(20))
  t.equal(text(answers(times(20, [1000, 15, 16]))), 'y'.repeat(20))
  t.end()
})

t.test('a busy machine: once may be chance, twice ends it', (t) => {
  t.equal(text(answers([...times(2, [9, 1]), [9, 2], ...times(2, [9, 1]), ...times(3, [9, 2])])), 'yyyyyy..')
  t.end()
})

t.test('the looks are rare on a busy machine, and come back', (t) => {
  const found = answers([...times(8, [100, 3]), ...times(7, [0, 1]), [9, 1]])
  t.same(pauses(found), [20, 40, 80, 160, 320, 640, 1000, 1000, 1000, 500, 250, 125, 62.5, 31.25, 20, 20])
  t.equal(text(found), `${'.'.repeat(15)}y`)
  t.end()
})

t.test('each trial that fails doubles the delay, one that goes well shortens it', (t) => {
  const found = answers(times(8, [9, 1], [0, 1]))
  t.same(
    pauses(found).filter((_, i) => i % 2 === 0),
    [20, 40, 80, 160, 320, 640, 1000, 1000],
  )
  const good = answers([...times(3, [9, 1], [0, 1]), ...times(51, [9, 1]), [0, 1], [9, 1]])
  t.equal(pauses(good).at(-1), 20)
  t.equal(pauses(answers([...times(3, [9, 1], [0, 1]), ...times(50, [9, 1]), [0, 1], [9, 1]])).at(-1), 20)
  t.equal(pauses(answers([...times(3, [9, 1], [0, 1]), ...times(49, [9, 1]), [0, 1], [9, 1]])).at(-1), 320)
  t.end()
})

t.test('whatever happens, it is within the rules', (t) => {
  const random = seeded(7)
  const draw = (below: number) => random() % below
  const looks = Array.from({ length: 20_000 }, (): Seen => [
    draw(3) === 0 ? draw(8) : 8 + draw(100),
    draw(4),
    1 + draw(4),
  ])
  const found = answers(looks)
  const busy = ([, running, processors = 2]: Seen) => running >= processors
  const wrong: string[] = []
  let yielded = 0
  for (const [i, look] of looks.entries()) {
    const before = looks[i - 1]
    if (!found[i]?.yields) continue
    yielded++
    if (look[0] < 8) wrong.push(`look ${i}: it yields although few were served`)
    if (busy(look) && before && busy(before)) wrong.push(`look ${i}: on a busy machine`)
    if (!found[i - 1]?.yields && busy(look)) wrong.push(`look ${i}: it begins on a busy machine`)
  }
  t.same(wrong, [])
  t.ok(yielded > 1000, `${yielded} of them yield`)
  for (const [i, pause] of pauses(found).entries()) {
    const least = found[i - 1]?.yields ? 2 : 20
    if (pause < least || (least === 2 && pause > 2) || pause > 1000) t.fail(`look ${i} after ${pause} ms`)
  }
  t.end()
})

t.test('a mount: given and taken back', { skip: lacking() }, async (t) => {
  const loadavg = join(build, 'loadavg')
  writeFileSync(loadavg, '0.00 0.00 0.00 02/100 1\n')
  const mount = await mounted(t, { environment: { KITH_LOADAVG: loadavg } })
  t.ok(rings(mount.pid) > 0, 'over io_uring')
  const said = await ran('python3', [testProgram('yielding.py'), String(mount.pid), mount.dir, loadavg])
  t.same(said.trim().split('\n'), [
    'yielding',
    'usual when the processors are busy',
    '0 times after that',
    'yielding again',
    'usual when nobody calls',
  ])
  await mount.stop()
  t.equal(mount.exitCode, 0)
  t.equal(mount.log, '')
})

t.test(
  'a mount of an ordinary user, who could not take it back, never yields',
  { skip: lacking() },
  async (t) => {
    const loadavg = join(build, 'loadavg-user')
    writeFileSync(loadavg, '0.00 0.00 0.00 02/100 1\n')
    const mount = await mounted(t, { uid: 1000, environment: { KITH_LOADAVG: loadavg } })
    t.ok(rings(mount.pid) > 0, 'over io_uring')
    const script = `import os, sys
for i in range(300): os.close(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)); os.unlink(sys.argv[1])`
    await ran('python3', ['-c', script, join(mount.dir, 'f')], { uid: 1000 })
    const policies = readdirSync(`/proc/${mount.pid}/task`).map((thread) => {
      const stat = readFileSync(`/proc/${mount.pid}/task/${thread}/stat`, 'utf8')
      // After the name, which may have blanks: field 3 first, the policy is field 41.
      return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[41 - 3]
    })
    t.ok(policies.length > 5)
    t.same(new Set(policies), new Set(['0']))
  },
)
