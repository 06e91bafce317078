/** What the codes have in common: their native part, and the checks of what is given to them. */
import { createRequire } from 'node:module'
import { assert, KithError } from '../base/errors.js'
import { slabs } from '../base/memory.js'
import { nativeFile } from '../base/native-files.js'

interface Addon {
  /** Makes the elements `wanted` of a Reed-Solomon code with `data` data elements from as many others. */
  reedSolomon(
    data: number,
    indexes: Buffer,
    sources: readonly Buffer[],
    wanted: Buffer,
    targets: readonly Buffer[],
  ): Promise<void>
  /** Steps are u32 in the machine's order: target, count, sources; all index `buffers`, and spare memory behind them. */
  xorSteps(steps: Uint8Array, buffers: readonly Buffer[], spare: number): Promise<void>
}

export const native = createRequire(import.meta.url)(nativeFile('codes.node')) as Addon

/** One buffer to become the xor of others, all by their index. */
export interface XorStep {
  target: number
  sources: readonly number[]
}

/**
 * Performs the steps in order; a later one may use what an earlier one made. What is a target counts as zero before. Numbers
 * beyond the buffers, `spare` of them, are memory for what nobody needs afterwards.
 */
export function xorSteps(steps: readonly XorStep[], buffers: readonly Buffer[], spare = 0): Promise<void> {
  const words = steps.flatMap(({ target, sources }) => [target, sources.length, ...sources])
  return native.xorSteps(Buffer.from(Uint32Array.from(words).buffer), buffers, spare)
}

/** Numbers of the elements that are there. Their count and lengths are the caller's matter: a mistake is ours. */
export function present(elements: readonly (Buffer | undefined)[], count: number): number[] {
  assert(elements.length === count, 'a place for each element of the stripe')
  const there = [...elements.keys()].filter((i) => elements[i])
  const length = elements[there[0] ?? 0]?.length
  assert(
    there.every((i) => elements[i]?.length === length && length !== 0),
    'elements of a stripe are equally long',
  )
  return there
}

export function tooFew(have: number, needed: number): KithError {
  return new KithError(
    'damaged',
    `a stripe cannot be read: ${have} of its elements are at hand, and ${needed} are needed; ` +
      'it can when more of the partners that hold it are on line',
  )
}

/** New elements as long as the others, with any contents. */
export function blank(count: number, length: number): Buffer[] {
  return slabs(count, length)
}

/** The elements that `of` numbers; a missing one is our mistake. */
export function pick(elements: readonly (Buffer | undefined)[], of: readonly number[]): Buffer[] {
  return of.map((i) => {
    const element = elements[i]
    assert(element, 'the element is there')
    return element
  })
}
