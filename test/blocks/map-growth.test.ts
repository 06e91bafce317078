import { spawn } from 'node:child_process'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Database, encodings } from '../../lib/blocks/database.js'
import { rowKey, rowOf, rowsOf } from '../helpers/growing.js'

t.setTimeout(280_000)

const script = fileURLToPath(new URL('./map-child.js', import.meta.url))

interface Ended {
  told: number
  killed: boolean
}

/** @param fault as in base/persistence.ts @param killAfter kills it when this round was told, amid the next */
function run(
  dir: string,
  from: number,
  to: number,
  how: { fault?: string; killAfter?: number },
): Promise<Ended> {
  const env = { ...process.env, KITH_TEST: '1', KITH_FAULT: how.fault ?? '' }
  const child = spawn(process.execPath, [script, dir, `${from}`, `${to}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env,
  })
  let told = from - 1
  createInterface({ input: child.stdout }).on('line', (line) => {
    told = Number(line)
    if (told === how.killAfter) child.kill('SIGKILL')
  })
  return new Promise((resolve) => child.on('close', (code) => resolve({ told, killed: code === null })))
}

/** How many rounds are there, each of them whole. */
async function rounds(dir: string): Promise<number> {
  const db = Database.open(dir)
  const table = db.table('t', encodings.bytes, encodings.bytes)
  let round = 0
  let rows = 0
  for (; table.has(rowKey(round, 0)); round++) {
    for (let i = 0; i < rowsOf(round); i++)
      if (!table.get(rowKey(round, i))?.equals(rowOf(round, i))) throw new Error(`row ${i} of round ${round}`)
    rows += rowsOf(round)
  }
  const extra = table.count() - rows
  await db.close()
  if (extra !== 0) throw new Error(`${extra} rows of a round that is not whole`)
  return round
}

t.test(
  'killed at every commit while the map grows: what was told is there, nothing is there by half',
  async (t) => {
    const dir = t.testdir()
    let done = 0
    const sizes: number[] = []
    for (let turn = 0; done < 12; turn++) {
      // Before a commit, after it; amid a transaction, wherever that is.
      const how = turn % 3 === 2 ? { killAfter: done } : { fault: `kill:${3 + (turn % 2)}` }
      const { told, killed } = await run(dir, done, done + 3, how)
      const there = await rounds(dir)
      t.ok(there === told + 1 || there === told + 2, `turn ${turn}: ${told + 1} told, ${there} there`)
      t.ok(killed || there === done + 3)
      done = there
      sizes.push(statSync(join(dir, 'data.mdb')).size)
    }
    t.ok((sizes.at(-1) ?? 0) > 30 * (sizes[0] ?? Infinity), `grew from ${sizes[0]} to ${sizes.at(-1)}`)
    t.equal(await rounds(dir), done)
  },
)
