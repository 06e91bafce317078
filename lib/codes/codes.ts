/** The codes by their names. */
import { KithError } from '../base/errors.js'
import { Parity } from './parity.js'
import { maxElements, ReedSolomon } from './reed-solomon.js'
import { leastData, leastParity, Tornado } from './tornado.js'
import type { Code, CodeName } from './types.js'

/** Throws KithError `usage` for counts that the code does not have. */
export function codeFor(name: CodeName, data: number, parity: number): Code {
  const whole = Number.isInteger(data) && Number.isInteger(parity)
  if (!whole || data < 1 || parity < 1 || data + parity > maxElements) {
    throw new KithError(
      'usage',
      `erasure:${data}+${parity} cannot be: a stripe has 1 to 255 data shards, at least 1 more, and 256 at most`,
    )
  }
  if (name === 'reed-solomon') return new ReedSolomon(data, parity)
  if (name === 'tornado') {
    if (data >= leastData && parity >= leastParity) return new Tornado(data, parity)
    throw new KithError(
      'usage',
      `the code tornado has ${leastData} data shards or more, and ${leastParity} more; reed-solomon has fewer`,
    )
  }
  if (parity !== 1) {
    throw new KithError('usage', 'the code parity has one parity shard; reed-solomon has more')
  }
  return new Parity(data)
}
