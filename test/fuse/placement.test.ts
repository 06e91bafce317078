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

const lookUs = 2000

interface Look {
  nowUs: number
  served: number
  running: number
  processors: number
}

let program: string | undefined

/** What the policy answers to each look, as in native/kith-fuse/placement.h. */
function answers(looks: readonly Look[]): boolean[] {
  if (program === undefined) {
    program = join(build, 'yield-policy')
    const flags = ['-std=c++20', '-Wall', '-Wextra', '-Werror', '-fsanitize=undefined', '-Inative/kith-fuse']
    execFileSync('g++', [...flags, 'test/fuse/native/yield-policy.cc', '-o', program])
  }
  const input = looks.map((look) => `${look.nowUs} ${look.served} ${look.running} ${look.processors}\n`)
  const said = execFileSync(program, { input: input.join(''), encoding: 'utf8' }).trim()
  return [...said].map((digit) => digit === '1')
}

/** One look after another, two processors. */
function story(...parts: [count: number, served: number, running: number][]): Look[] {
  const looks: Look[] = []
  for (const [count, served, running] of parts)
    for (let i = 0; i < count; i++)
      looks.push({ nowUs: (looks.length + 1) * lookUs, served, running, processors: 2 })
  return looks
}

function text(answers: readonly boolean[]): string {
  return answers.map((yielding) => (yielding ? 'y' : '.')).join('')
}

t.test('while many are served and a processor is idle', (t) => {
  t.equal(text(answers(story([3, 7, 1], [4, 8, 1], [1, 7, 1]))), '...yyyy.')
  t.equal(text(answers(story([20, 1000, 2]))), '.'.repeat(20), 'never when all processors are busy')
  t.equal(text(answers(story([20, 1000, 15]))), '.'.repeat(20))
  t.end()
})

t.test('a busy machine: once may be chance, twice ends it', (t) => {
  t.equal(text(answers(story([2, 9, 1], [1, 9, 2], [2, 9, 1], [3, 9, 2]))), 'yyyyyy..')
  t.end()
})

t.test('each end doubles the delay, up to a second; going well shortens it', (t) => {
  const looks = story([3000, 100, 1])
  const starts: number[] = []
  for (let trial = 0; trial < 9; trial++) {
    const begin = answers(looks).findIndex((yielding, i) => yielding && i > (starts.at(-1) ?? -1) + 1)
    starts.push(begin)
    const after = looks[begin + 1]
    if (after) after.served = 0
  }
  const gaps = starts.slice(1).map((at, i) => (at - (starts[i] ?? 0) - 1) * lookUs)
  t.same(
    gaps,
    [20, 40, 80, 160, 320, 640, 1000, 1000].map((ms) => ms * 1000),
  )

  const good = answers(story([1, 9, 1], [1, 0, 1], [70, 9, 1], [1, 0, 1], [30, 9, 1]))
  const last = good.lastIndexOf(false)
  t.equal(last - 72, 9, 'after 100 ms and more the delay is 20 ms again')
  t.end()
})

t.test('whatever happens, a request waits for two looks at most, and rarely', (t) => {
  const random = seeded(7)
  const draw = (below: number) => random() % below
  const looks = Array.from({ length: 20_000 }, (_, i) => ({
    nowUs: (i + 1) * lookUs,
    served: draw(3) === 0 ? draw(8) : 8 + draw(100),
    running: draw(4),
    processors: 1 + draw(4),
  }))
  const found = answers(looks)
  t.equal(found.length, looks.length)
  let yielded = 0
  const wrong: string[] = []
  for (const [i, look] of looks.entries()) {
    if (!found[i]) continue
    yielded++
    if (look.served < 8) wrong.push(`look ${i}: it yields although few were served`)
    const before = looks[i - 1]
    const busy = look.running >= look.processors
    if (busy && before && before.running >= before.processors) wrong.push(`look ${i}: on a busy machine`)
    if (!found[i - 1] && busy) wrong.push(`look ${i}: it begins on a busy machine`)
  }
  t.same(wrong, [])
  t.ok(yielded > 50, `${yielded} of them yield`)
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
