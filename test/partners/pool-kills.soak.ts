/** kill -9 at each step by which strangers become partners: both are bound by the same, or neither, and then both. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { privateDht, until } from '../helpers/dht.js'
import { run } from '../helpers/pact-process.js'

t.setTimeout(240_000)

const steps = [
  ['seek', 'pool: met', 'strangers met'],
  ['seek', 'pool: chosen', 'one was chosen'],
  ['seek', 'agreement offered', 'the offer is stored, not sent'],
  ['seek', 'agreement answered by the partner', 'the answer is there, not stored'],
  ['seek', 'agreement made', 'it is stored'],
  ['lend', 'agreement asked for', 'the offer is there, nothing stored'],
  ['lend', 'agreement made', 'it is stored, not answered'],
  ['lend', 'agreement answered', 'it is about to be answered'],
] as const

const base = mkdtempSync(join(tmpdir(), 'kith-pool-'))
t.teardown(() => rmSync(base, { recursive: true, force: true }))

t.test('each step', async (t) => {
  await Promise.all(
    steps.map(async ([role, fatal, what], i) => {
      const dht = await privateDht(t)
      const args = (side: 'seek' | 'lend') => {
        const own = 60 + 2 * i + (side === 'seek' ? 0 : 1)
        return [join(base, `node-${own}`), String(own), dht.address, side]
      }
      const other = role === 'seek' ? 'lend' : 'seek'
      const standing = run(t, [...args(other), '-'])
      t.equal(await run(t, [...args(role), fatal]).exit, 'SIGKILL', what)
      const again = run(t, [...args(role), '-'])
      await until(() => standing.last.standing === 'active' && again.last.standing === 'active', 120)
      t.equal(standing.last.number, again.last.number, `${what}: the same agreement`)
    }),
  )
})
