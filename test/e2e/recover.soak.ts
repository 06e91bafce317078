// From the phrase alone: with a project's packages, and a large file.
import { realpathSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { lostAndRecovered } from '../helpers/recovered.js'

t.setTimeout(1_000_000)

const project = fileURLToPath(new URL('../../../', import.meta.url))

t.test('a real tree, lost and recovered', (t) => {
  const beside = ['/usr/include', realpathSync(join(project, 'node_modules'))]
  return lostAndRecovered(t, { made: { bigBytes: 300 * 2 ** 20 }, beside, leastNames: 30_000 })
})
