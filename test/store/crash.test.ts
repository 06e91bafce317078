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

t.test('killed during snapshots: the last one told is whole, and the next is right', async (t) => {
  holdProcess(t)
  const base = t.testdir()
  const home = join(base, 'home')
  const dir = join(base, 'live')
  for (let i = 0; i < 5; i++) mkdirSync(join(dir, `d${i}`), { recursive: true })
  const script = fileURLToPath(new URL('./crash-child.js', import.meta.url))
  const next = seeded(21)
  const told: string[] = []
  for (let round = 0; round < 5; round++) {
    const child = spawn(process.execPath, [script, home, dir, String(round)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    const enough = 1 + (next() % 4)
    const late = next() % 60
    child.stdout.on('data', (data) => {
      text += String(data)
      if (text.split('\n').length > enough) setTimeout(() => child.kill('SIGKILL'), late)
    })
    await new Promise((resolve) => child.on('close', resolve))
    told.push(...text.split('\n').slice(0, -1))

    const options = { clock: systemClock, log: silentLog(), identity: testIdentity, workers: 1 }
    const store = await Store.open(home, options)
    const volume = store.volumes()[0] as Volume
    const names = volume.snapshots().map(({ name }) => name)
    t.same(
      told.filter((name) => !names.includes(name)),
      [],
      'every snapshot that was told is there',
    )
    const reader = volume.reader(store.blocks)
    const { length } = await reader.records()
    t.equal(length, names.length)
    for (const name of names.slice(-3)) await linesOfSnapshot(reader, await reader.snapshot(name))
    const rootFd = openRoot(dir)
    await volume.snapshot(rootFd)
    await sameAsDirectory(t, { dir, home, rootFd, store, volume, reopen: async () => undefined })
    close(rootFd)
    await store.close()
  }
})
