/**
 * How figures are taken: contenders do the same work in turn, round after round, the order rotating, so that what the
 * machine does meanwhile falls on all of them alike. A figure is the median over the rounds of the ratio within a round.
 */

/** Seconds of one contender's turn at one piece of work; `undefined` where it cannot do it. */
export type Turn = () => Promise<number | undefined>

export interface Figure {
  contender: string
  seconds: number
  /** median over the rounds of (base's seconds / this contender's seconds): 2 is twice as fast as the base */
  ratio: number
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2
}

/** Of each contender, by round, what its turn took. */
export type Taken = ReadonlyMap<string, readonly (number | undefined)[]>

/** Runs all turns for each round; the first contender is the base. */
export async function compare(turns: Map<string, Turn>, rounds: number): Promise<Figure[]> {
  return figures(await take(turns, rounds))
}

/** Runs all turns for each round. */
export async function take(turns: Map<string, Turn>, rounds: number): Promise<Taken> {
  const names = [...turns.keys()]
  const seconds = new Map<string, (number | undefined)[]>(names.map((name) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < names.length; i++) {
      const name = names[(i + round) % names.length] ?? ''
      seconds.get(name)?.push(await turns.get(name)?.())
    }
  }
  return seconds
}

/**
 * How many times as fast as the best of its rivals a contender is: the least, over the rivals, of the median over the
 * rounds of (rival's seconds / its seconds). `undefined` where none of them did the work.
 */
export function lead(taken: Taken, contender: string, rivals: readonly string[]): number | undefined {
  const own = taken.get(contender) ?? []
  const ratios = rivals.flatMap((rival) => {
    const rounds = (taken.get(rival) ?? []).flatMap((value, i) => {
      const against = own[i]
      return value === undefined || against === undefined ? [] : [value / against]
    })
    return rounds.length > 0 ? [median(rounds)] : []
  })
  return ratios.length > 0 ? Math.min(...ratios) : undefined
}

/** From the seconds of each contender, by round, to figures against the first one. */
export function figures(seconds: Taken): Figure[] {
  const base = [...seconds.values()][0] ?? []
  const result: Figure[] = []
  for (const [contender, taken] of seconds) {
    const done = taken.filter((value) => value !== undefined)
    const ratios = taken.flatMap((value, i) => {
      const against = base[i]
      return value === undefined || against === undefined ? [] : [against / value]
    })
    if (done.length > 0) result.push({ contender, seconds: median(done), ratio: median(ratios) })
  }
  return result
}

/** A line of a table: `label`, then each contender's ratio to the first, which shows its seconds. Three digits below 0.1. */
export function row(label: string, columns: readonly string[], figures: readonly Figure[]): string {
  const cells = columns.map((column, i) => {
    const figure = figures.find(({ contender }) => contender === column)
    if (!figure) return '-'.padStart(12)
    return (
      i === 0 ? `${figure.seconds.toFixed(3)} s` : figure.ratio.toFixed(figure.ratio < 0.0995 ? 3 : 2)
    ).padStart(12)
  })
  return label.padEnd(26) + cells.join('')
}

export function heading(columns: readonly string[]): string {
  return ''.padEnd(26) + columns.map((column) => column.padStart(12)).join('')
}
