/**
 * `npm run simulate -- years`: which scenarios are run, and what is told of them: data lost, traffic and time out of reach by code,
 * failures and availability; the closed form; what grace, repair at once and audits cost and bring; what it brings to cheat.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { parsePlacement, type Shape, shapeText, unreachable } from '../lib/planning/placement.js'
import { repairDefaults, type RepairPolicy } from '../lib/planning/repair.js'
import { type InstantsResult, isInside, simulateInstants } from './instants.js'
import { yearMs } from './lives.js'
import { linePlot } from './plot.js'
import { simulateStrategy, strategies } from './strategies.js'
import type { YearsOptions, YearsResult } from './years.js'

/** Sure elements over m below which late holders are not waited for; named, since functions do not travel to workers. */
export const atOnceRules = {
  default: repairDefaults.atOnce,
  never: () => -Infinity,
  last: () => 0,
  third: (parity) => Math.floor(parity / 3),
  half: (parity) => Math.ceil(parity / 2),
  always: (parity) => parity,
} satisfies Record<string, RepairPolicy['atOnce']>

export interface Scenario extends Omit<YearsOptions, 'atOnce'> {
  readonly rule: keyof typeof atOnceRules
}

export interface ReportOptions {
  /** in all, and over how many seeds they are spread */
  readonly owners: number
  readonly seeds: number
  readonly seed: number
  readonly years: number
  /** of the nodes of one seed; a dozen nodes each, when not given */
  readonly sites?: number
}

/** Three replicas are 1+2. */
const shapes = ['2+1', '3+3', '4+4', '6+3', '5+5', '12+8', '1+2'].map(shapeOf)
const failureRates = [0.1, 0.3]
const availabilities = [0.9, 0.7]
export const usual = { disasters: 0.02, graceDays: 30, auditHours: 24, rule: 'default' } as const
const looksOfClosedForm = 20_000
const nodesOfClosedForm = 1000
const commitments = [0, 45]

/** @param tell progress, a line each time; `print` gets each row of the tables as soon as it and those before it are known */
export async function reportYears(
  options: ReportOptions,
  print: (line: string) => void,
  tell: (line: string) => void = () => undefined,
): Promise<string> {
  const { owners, seeds, seed, years } = options
  const each = Math.ceil(owners / seeds)
  const common = { ...usual, owners: each, sites: options.sites ?? sitesOf(each), forMs: years * yearMs }
  const main = failureRates.flatMap((failures) =>
    availabilities.flatMap((availability) =>
      shapes.map((shape) => ({ ...common, failures, availability, shape })),
    ),
  )
  const other = variants.map(({ change }) => ({
    ...common,
    owners: Math.max(60, each / 4),
    ...variantOf,
    ...change,
  }))
  const all = [...main, ...other].flatMap((scenario) =>
    Array.from({ length: seeds }, (_, i) => ({ ...scenario, seed: seed + i })),
  )
  const found = all.map((): YearsResult | undefined => undefined)
  const results: YearsResult[] = []
  let done = 0
  await runAll(all, (index, result) => {
    found[index] = result
    tell(`${++done} of ${all.length} experiments`)
    for (;;) {
      const row = results.length
      const bySeed = found.slice(row * seeds, (row + 1) * seeds).filter((one) => one !== undefined)
      const [first, ...others] = bySeed
      if (!first || bySeed.length < seeds) return
      results.push(others.reduce(together, first))
      printRow(row, main, results, years, print)
    }
  })
  const instants = closedForm(seed, seeds, print)
  cheating(seed, years, print)
  return plot(main, results, instants)
}

/** Of the scenarios, then of the variants; with the head of its table, if it is the first there. */
function printRow(
  index: number,
  main: readonly Omit<Scenario, 'seed'>[],
  results: readonly YearsResult[],
  years: number,
  print: (line: string) => void,
): void {
  const [scenario, result] = [main[index], results[index]]
  if (!result) return
  if (scenario) {
    if (index % shapes.length === 0) printHead(scenario, years, print)
    return print(row(nameOf(scenario.shape), result, years))
  }
  if (index === main.length) {
    print('')
    print(`What settings do: ${nameOf(variantOf.shape)}, 30 % of the nodes fail in a year, on line 90 %`)
    print(headLine(years))
  }
  print(row(variants[index - main.length]?.name ?? '', result, years))
}

const variantOf = { failures: 0.3, availability: 0.9, shape: shapeOf('6+3') }
const variants: { name: string; change: Partial<Scenario> }[] = [
  { name: 'no repair', change: { isIdle: true } },
  { name: 'blind to sites', change: { isBlind: true } },
  ...[7, 14, 60].map((graceDays) => ({ name: `grace ${graceDays} d`, change: { graceDays } })),
  ...(['never', 'last', 'third', 'half', 'always'] as const).map((rule) => ({
    name: `at once: ${rule}`,
    change: { rule },
  })),
  ...[1, 7, 30].map((days) => ({ name: `audits each ${days} d`, change: { auditHours: 24 * days } })),
]

/** Of a dozen nodes each; but enough of them for a stripe. */
function sitesOf(nodes: number): number {
  return Math.max(12, Math.round(nodes / 12))
}

function shapeOf(text: string): Shape {
  const placement = parsePlacement(`erasure:${text}`)
  if (placement.kind !== 'erasure') throw new Error(`${text} is no code`)
  return placement.shape
}

function nameOf(shape: Shape): string {
  return shape.data === 1 ? `replica ${shape.parity + 1}` : shapeText(shape)
}

/** On all processors; what comes out does not depend on which. `finished` is told of each, in whichever order they are done. */
async function runAll(
  scenarios: readonly Scenario[],
  finished: (index: number, result: YearsResult) => void,
): Promise<void> {
  let next = 0
  const work = () =>
    new Promise<void>((done, failed) => {
      const worker = new Worker(new URL('years-worker.js', import.meta.url))
      const give = () => {
        const scenario = scenarios[next]
        if (scenario) worker.postMessage({ index: next++, scenario })
        else void worker.terminate().then(() => done())
      }
      worker.on('error', failed)
      worker.on('message', ({ index, result }: { index: number; result: YearsResult }) => {
        give()
        finished(index, result)
      })
      give()
    })
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), scenarios.length) }, work))
}

/** @returns both as one run; traffic is per owner and year, and both have as many */
function together(one: YearsResult, other: YearsResult): YearsResult {
  const years = one.ownerYears + other.ownerYears
  const mean = (a: number, b: number) => (a * one.ownerYears + b * other.ownerYears) / years
  return {
    ownerYears: years,
    pairYears: one.pairYears + other.pairYears,
    stripes: one.stripes + other.stripes,
    lost: one.lost + other.lost,
    losers: one.losers + other.losers,
    looks: one.looks + other.looks,
    outOfReach: one.outOfReach + other.outOfReach,
    sent: mean(one.sent, other.sent),
    fetched: mean(one.fetched, other.fetched),
    remakes: one.remakes + other.remakes,
    inVain: one.inVain + other.inVain,
    evicted: {
      failed: one.evicted.failed + other.evicted.failed,
      overlong: one.evicted.overlong + other.evicted.overlong,
      wrongly: one.evicted.wrongly + other.evicted.wrongly,
    },
    worstDisaster: Math.max(one.worstDisaster, other.worstDisaster),
    lostBy: one.lostBy.map((lost, i) => mean(lost, other.lostBy[i] ?? 0)),
  }
}

function printHead(
  { failures, availability }: Omit<Scenario, 'seed'>,
  years: number,
  print: (line: string) => void,
) {
  print('')
  print(`${percent(failures)} of the nodes fail in a year, on line ${percent(availability)}`)
  print(headLine(years))
}

const columns = [16, 18, 14, 12, 12, 10, 16, 14]

function headLine(years: number): string {
  return line(
    '',
    `lost in ${years} a`,
    'out of reach',
    'sent / a',
    'fetched / a',
    'in vain',
    'wrongly / a',
    'at one site',
  )
}

function row(name: string, result: YearsResult, years: number): string {
  const { stripes, lost, outOfReach, looks, sent, fetched, remakes, inVain, evicted, pairYears } = result
  return line(
    name,
    lost === 0 ? `< ${percent(3 / stripes)}` : percent(lost / stripes),
    percent(outOfReach / Math.max(1, looks)),
    `${sent.toFixed(2)} x`,
    `${fetched.toFixed(2)} x`,
    percent(inVain / Math.max(1, remakes)),
    percent(evicted.wrongly / Math.max(years, pairYears)),
    `<= ${result.worstDisaster}`,
  )
}

function line(...cells: string[]): string {
  return cells
    .map((cell, i) => (i === 0 ? cell.padEnd(columns[0] ?? 0) : cell.padStart(columns[i] ?? 0)))
    .join('')
}

function percent(share: number): string {
  return `${share === 0 ? 0 : share < 0.001 ? Number((100 * share).toPrecision(1)) : Number((100 * share).toPrecision(3))} %`
}

function closedForm(seed: number, seeds: number, print: (line: string) => void): InstantsResult[] {
  const all: InstantsResult[] = []
  for (let i = 0; i < Math.max(3, seeds); i++)
    for (const availability of availabilities)
      all.push(
        ...simulateInstants({
          shapes,
          availability,
          seed: seed + i,
          nodes: nodesOfClosedForm,
          looks: looksOfClosedForm,
        }),
      )
  print('')
  print('Out of reach at random instants, nobody failing: simulated (95 % interval), and by the closed form')
  for (const [i, found] of all.slice(0, shapes.length * availabilities.length).entries()) {
    const { shape, share, low, high, expected } = found
    const availability = percent(availabilities[Math.floor(i / shapes.length)] ?? 0)
    const interval = `(${percent(low)} .. ${percent(high)})`
    const verdict = isInside(found) ? 'inside' : 'outside'
    print(
      line(nameOf(shape), availability, percent(share)) +
        interval.padStart(26) +
        percent(expected).padStart(14) +
        `  ${verdict}`,
    )
  }
  print(`inside: ${all.filter(isInside).length} of ${all.length} experiments; 95 in 100 are to be`)
  return all
}

function cheating(seed: number, years: number, print: (line: string) => void): void {
  print('')
  print(
    'Space-time that a stranger gets (restorable) against what it gives, GB years, by the commitment of a fresh agreement',
  )
  const gigabyteYears = (byteDays: number) => (byteDays / 1e9 / 365).toFixed(2)
  print(line('', 'commitment', 'got', 'given', 'names', 'caught in'))
  for (const commitmentDays of commitments)
    for (const [name, strategy] of Object.entries(strategies)) {
      const { graceDays, auditHours } = usual
      const options = { forMs: years * yearMs, seed, graceDays, auditHours, commitmentDays }
      const { got, given, names, caughtHours } = simulateStrategy(strategy, options)
      const caught = caughtHours > 0 ? `${(caughtHours / 24).toFixed(1)} d` : '-'
      print(
        line(name, `${commitmentDays} d`, gigabyteYears(got), gigabyteYears(given), String(names), caught),
      )
    }
}

function plot(
  main: readonly Omit<Scenario, 'seed'>[],
  results: readonly YearsResult[],
  instants: readonly InstantsResult[],
): string {
  const losses = failureRates.map((rate) => ({
    title: `Of the data, lost: ${percent(rate)} of the nodes fail in a year, on line 90 %`,
    across: 'years',
    highest: Math.max(
      1,
      ...main.flatMap((one, i) =>
        one.failures === rate && one.availability === 0.9 ? [100 * (results[i]?.lostBy.at(-1) ?? 0)] : [],
      ),
    ),
    series: main.flatMap(({ failures, availability, shape }, i) => {
      if (failures !== rate || availability !== 0.9) return []
      const lostBy = [0, ...(results[i]?.lostBy ?? [])]
      return [{ name: nameOf(shape), points: lostBy.map((lost, year) => [year, 100 * lost] as const) }]
    }),
  }))
  const low = instants.slice(shapes.length, 2 * shapes.length)
  const order = [...low].sort((a, b) => a.expected - b.expected)
  const reach = {
    title: `Out of reach, on line 70 %: ${order.map(({ shape }) => nameOf(shape)).join(', ')}`,
    across: 'code, from the best to the worst',
    highest: 30,
    series: [
      { name: 'simulated', points: order.map(({ share }, i) => [i, 100 * share] as const) },
      {
        name: 'closed form',
        points: order.map(
          ({ shape }, i) =>
            [i, 100 * unreachable(Array<number>(shape.data + shape.parity).fill(0.7), shape.data)] as const,
        ),
      },
    ],
  }
  return linePlot([...losses, reach])
}
