import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { close, openRoot } from '../../lib/base/posix.js'
import { seeded } from '../../lib/base/random.js'
import { Store } from '../../lib/store/store.js'
import type { Volume } from '../../lib/store/volume.js'
import { holdProcess, linesOfSnapshot, sameAsDirectory, testIdentity } from '../helpers/store.js'

t.setTimeout(280_000)

const script = fileURLToPath(new URL('./prune-child.js', import.meta.url))

/** Runs the child until it has told so many lines, kills it a little later, and gives the snapshots told last. */
async function killed(home: string, dir: string, seed: number, lines: number, lateMs: number) {
  const child = spawn(process.execPath, [script, home, dir, String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  let isDue = false
  child.stdout.on('data', (data) => {
    text += String(data)
    if (isDue || text.split('\n').length <= lines) return
    isDue = true
    setTimeout(() => child.kill('SIGKILL'), lateMs)
  })
  await new Promise((resolve) => child.on('close', resolve))
  const whole = text.split('\n').slice(0, -1)
  return { told: whole.findLast((line) => line.includes('Z'))?.split(' ') ?? [], stage: whole.at(-1) }
}

t.test('killed while it prunes: what is listed is whole, and what comes next is right', async (t) => {
  holdProcess(t)
  const base = t.testdir()
  const home = join(base, 'home')
  const dir = join(base, 'live')
  for (let i = 0; i < 4; i++) mkdirSync(join(dir, `d${i}`), { recursive: true })
  const next = seeded(71)
  const stages = new Set<string | undefined>()
  for (let round = 0; round < 5; round++) {
    const { told, stage } = await killed(home, dir, round, 10 + (next() % 20), next() % 25)
    stages.add(stage)
    const options = { clock: systemClock, log: silentLog(), identity: testIdentity, workers: 1 }
    const store = await Store.open(home, options)
    const volume = store.volumes()[0] as Volume
    const names = volume.snapshots().map(({ name }) => name)
    t.same(
      told.filter((name) => !names.includes(name)),
      [],
      `round ${round}: what was told is there`,
    )
    const reader = volume.reader(store.blocks)
    for (const name of names) await linesOfSnapshot(reader, await reader.snapshot(name))
    const rootFd = openRoot(dir)
    if (round % 2 === 0) await volume.recordEverything()
    await volume.snapshot(rootFd)
    if (round % 2 === 0)
      await sameAsDirectory(t, { dir, home, rootFd, store, volume, reopen: async () => undefined })
    await store.prune({})
    for (const { name } of volume.snapshots()) await linesOfSnapshot(reader, await reader.snapshot(name))
    t.equal((await store.prune({})).blocks, 0)
    close(rootFd)
    await store.close()
  }
  t.ok(stages.size > 1, `killed after ${[...stages].join(', ')}`)
})
