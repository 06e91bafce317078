/** Stripes of seeded bytes, and what is lost of them. */
import type { Code } from '../../lib/codes/types.js'
import { seededBytes } from './bytes.js'

type Random = () => number

/** A stripe of `code`: all its elements. */
export async function stripe(random: Random, code: Code, length: number): Promise<Buffer[]> {
  const data = Array.from({ length: code.data }, () => seededBytes(random, length))
  return [...data, ...(await code.encode(data))]
}

/** `count` of the numbers below `of`, in seeded order. */
export function some(random: Random, of: number, count: number): number[] {
  const all = Array.from({ length: of }, (_, i) => i)
  for (let i = of - 1; i > 0; i--) {
    const j = random() % (i + 1)
    const other = all[j] ?? 0
    all[j] = all[i] ?? 0
    all[i] = other
  }
  return all.slice(0, count)
}

export function without(elements: readonly Buffer[], lost: readonly number[]): (Buffer | undefined)[] {
  return elements.map((element, i) => (lost.includes(i) ? undefined : element))
}

/** Whether `some` are the elements of `all` with these numbers. */
export function sameAs(all: readonly Buffer[], some: readonly Buffer[], numbers: readonly number[]): boolean {
  return (
    some.length === numbers.length &&
    some.every((element, i) => all[numbers[i] ?? -1]?.equals(element) ?? false)
  )
}
