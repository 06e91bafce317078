/**
 * Reed-Solomon: any `data` of the data + parity elements give back all; 256 elements at most. Over GF(2^8) with the
 * polynomial 0x11d and a Cauchy matrix (native/codes has the rows), computed by ISA-L. The matrix is part of the format: other
 * coefficients would not open the stripes that exist. A row does not depend on how many others there are.
 */
import { assert } from '../base/errors.js'
import { blank, native, pick, present, tooFew } from './elements.js'
import type { Code } from './types.js'

export const maxElements = 256

export class ReedSolomon implements Code {
  readonly name = 'reed-solomon'

  constructor(
    readonly data: number,
    readonly parity: number,
  ) {
    assert(data >= 1 && parity >= 1 && data + parity <= maxElements, 'a code has 2 to 256 elements')
  }

  get needed(): number {
    return this.data
  }

  encode(data: readonly Buffer[]): Promise<Buffer[]> {
    assert(data.length === this.data, 'all data elements are given')
    const parity = Array.from({ length: this.parity }, (_, i) => this.data + i)
    return this.make([...data, ...parity.map(() => undefined)], parity)
  }

  decode(elements: readonly (Buffer | undefined)[]): Promise<Buffer[]> {
    return this.make(
      elements,
      Array.from({ length: this.data }, (_, i) => i),
    )
  }

  async make(elements: readonly (Buffer | undefined)[], wanted: readonly number[]): Promise<Buffer[]> {
    const there = present(elements, this.data + this.parity)
    const missing = [...new Set(wanted)].filter((i) => !elements[i])
    if (missing.length === 0) return pick(elements, wanted)
    if (there.length < this.data) throw tooFew(there.length, this.data)
    const used = there.slice(0, this.data)
    const sources = pick(elements, used)
    const made = blank(missing.length, sources[0]?.length ?? 0)
    await native.reedSolomon(this.data, Buffer.from(used), sources, Buffer.from(missing), made)
    const all = [...elements]
    missing.forEach((i, at) => (all[i] = made[at]))
    return pick(all, wanted)
  }
}
