/** What is promised of a file's instants (docs/architecture.md), with a writer that never stops. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { FileEntry } from '../../lib/format/node.js'
import { instantOf, invariantFiles, numbersBlock } from '../helpers/invariant.js'
import { change, protect } from '../helpers/store.js'

t.setTimeout(280_000)

const script = fileURLToPath(new URL('./invariant-child.js', import.meta.url))
const snapshots = 15

t.test('a copy of several instants is told from one of one', (t) => {
  const blocks = (...rounds: number[]) => Buffer.concat(rounds.map(numbersBlock))
  t.same(instantOf(blocks(5, 5, 5)), { first: 5, last: 5 })
  t.same(instantOf(blocks(6, 6, 5)), { first: 6, last: 5 })
  t.equal(instantOf(blocks(5, 5, 6)), undefined, 'the end is later than the beginning')
  t.equal(instantOf(blocks(7, 6, 5)), undefined, 'it was rewritten meanwhile')
  t.equal(instantOf(blocks(6, 5, 6)), undefined)
  t.end()
})

t.test(
  'while a writer keeps an invariant inside each file, every snapshot has it, or says busy',
  async (t) => {
    const { dir, rootFd, volume, store } = await protect(t)
    for (const { name, blocks } of invariantFiles)
      writeFileSync(join(dir, name), Buffer.concat(Array<Buffer>(blocks).fill(numbersBlock(0))))
    await volume.snapshot(rootFd)
    const writer = spawn(process.execPath, [script, dir, '7'], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => writer.kill('SIGKILL'))
    const written = new Map<string, bigint>()
    let lines = 0
    createInterface({ input: writer.stdout }).on('line', (line) => {
      const [name = '', ino = ''] = line.split(' ')
      written.set(name, BigInt(ino))
      lines++
    })
    const more = async (from: number) => {
      while (lines <= from + invariantFiles.length) await new Promise((resolve) => setTimeout(resolve, 5))
    }

    const names: string[] = []
    for (let i = 0; i < snapshots; i++) {
      await more(lines)
      // Half of the time content comes from a reading ahead, and the log tells what is written meanwhile.
      const told = [...written.values()]
      await volume.recordChanges(told.map((ino) => change('truncate', ino)))
      if (i % 2) await volume.readAhead(rootFd, told)
      await volume.recordChanges(told.map((ino) => change('truncate', ino)))
      names.push((await volume.snapshot(rootFd)).name)
    }
    writer.kill('SIGKILL')
    await once(writer, 'close')

    const reader = volume.reader(store.blocks)
    const seen = { whole: 0, busy: 0 }
    for (const name of names) {
      const root = await reader.snapshot(name)
      for (const file of invariantFiles) {
        const entry = (await reader.resolve(root, [Buffer.from(file.name)])) as FileEntry
        t.equal(entry.size, file.blocks * 4096)
        if (entry.busy) {
          seen.busy++
          continue
        }
        seen.whole++
        if (!instantOf(await reader.read(entry, 0, entry.size)))
          t.fail(`${file.name} in ${name} is of several instants`)
      }
    }
    t.ok(seen.whole >= snapshots / 3, `${seen.whole} at rest, ${seen.busy} busy`)
    t.comment(`${seen.whole} at rest, ${seen.busy} busy`)
  },
)
