/** One parity element, the xor of all data: any one element may be lost. */
import { assert } from '../base/errors.js'
import { blank, pick, present, tooFew, xorSteps } from './elements.js'
import type { Code } from './types.js'

export class Parity implements Code {
  readonly name = 'parity'
  readonly parity = 1

  constructor(readonly data: number) {
    assert(data >= 1 && data < 256, 'a code has 2 to 256 elements')
  }

  get needed(): number {
    return this.data
  }

  encode(data: readonly Buffer[]): Promise<Buffer[]> {
    assert(data.length === this.data, 'all data elements are given')
    return this.make([...data, undefined], [this.data])
  }

  decode(elements: readonly (Buffer | undefined)[]): Promise<Buffer[]> {
    return this.make(
      elements,
      Array.from({ length: this.data }, (_, i) => i),
    )
  }

  async make(elements: readonly (Buffer | undefined)[], wanted: readonly number[]): Promise<Buffer[]> {
    const there = present(elements, this.data + 1)
    const lost = wanted.find((i) => !elements[i])
    if (lost === undefined) return pick(elements, wanted)
    if (there.length < this.data) throw tooFew(there.length, this.data)
    const buffers = [...pick(elements, there), ...blank(1, elements[there[0] ?? 0]?.length ?? 0)]
    await xorSteps([{ target: this.data, sources: [...there.keys()] }], buffers)
    const all = [...elements]
    all[lost] = buffers[this.data]
    return pick(all, wanted)
  }
}
