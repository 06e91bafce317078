/**
 * `npm run simulate -- matching | years [--full] [--nodes N | --owners N] [--days N | --years N] [--seed N] [--out DIR]`: runs a
 * simulation of many nodes with the planning code of the product, prints its figures, and writes a plot into the output folder. The
 * same seed gives the same figures. Without --full fewer nodes are simulated; docs/simulations.md has the figures of the full ones.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type MatchingResult, simulateMatching } from './matching.js'
import { linePlot } from './plot.js'
import { reportYears } from './years-report.js'

const dayMs = 24 * 3_600_000
const percent = (share: number) => `${(100 * share).toFixed(1)} %`

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      full: { type: 'boolean', default: false },
      'by-chance': { type: 'boolean', default: false },
      nodes: { type: 'string' },
      days: { type: 'string' },
      owners: { type: 'string' },
      years: { type: 'string' },
      sites: { type: 'string' },
      seeds: { type: 'string', default: '2' },
      seed: { type: 'string', default: '1' },
      out: { type: 'string', default: 'output' },
    },
  })
  const [which, ...more] = positionals
  if (more.length === 0 && which === 'matching') return matching(values)
  if (more.length === 0 && which === 'years') return await years(values)
  console.error('simulate: which one? There are: matching, years')
  return 2
}

interface Values {
  full: boolean
  'by-chance': boolean
  nodes?: string
  days?: string
  owners?: string
  years?: string
  sites?: string
  seeds: string
  seed: string
  out: string
}

async function years(values: Values): Promise<number> {
  const owners = Number(values.owners ?? (values.full ? 1000 : 120))
  const span = Number(values.years ?? (values.full ? 10 : 5))
  const [seed, seeds] = [Number(values.seed), Number(values.seeds)]
  if (!(
    owners >= 60 * seeds &&
    span >= 1 &&
    Number.isInteger(seed) &&
    Number.isInteger(seeds) &&
    seeds > 0
  )) {
    console.error('simulate: --owners (60 for each seed, or more), --years, --seeds and --seed are numbers')
    return 2
  }
  console.log(`years: ${owners} owners, ${span} years, ${seeds} seeds from ${seed}`)
  const sites = values.sites === undefined ? undefined : Number(values.sites)
  const options = { owners, seeds, seed, years: span, ...(sites && { sites }) }
  const { print, tell } = terminal()
  const text = await reportYears(options, print, tell)
  mkdirSync(values.out, { recursive: true })
  const file = join(values.out, 'years.svg')
  writeFileSync(file, text)
  console.log(`plot: ${file}`)
  return 0
}

/** Rows to stdout, progress to stderr: a line that is written over where somebody looks, else a line each time. */
function terminal(): { print(line: string): void; tell(line: string): void } {
  const erase = process.stderr.isTTY ? '\r\x1b[K' : ''
  return {
    print: (line) => {
      process.stderr.write(erase)
      console.log(line)
    },
    tell: (line) => process.stderr.write(erase + line + (erase === '' ? '\n' : '')),
  }
}

function matching(values: Values): number {
  const nodes = Number(values.nodes ?? (values.full ? 10_000 : 1000))
  const days = Number(values.days ?? 1)
  const seed = Number(values.seed)
  if (!(nodes >= 2 && days > 0 && Number.isInteger(seed))) {
    console.error('simulate: --nodes, --days and --seed are numbers')
    return 2
  }
  console.log(
    `matching: ${nodes} nodes, ${days} days, seed ${seed}${values['by-chance'] ? ', met by chance' : ''}`,
  )
  const result = simulateMatching({
    nodes,
    // A smaller network has fewer kinds of nodes, too.
    images: Math.max(4, Math.round(16 * Math.sqrt(nodes / 10_000))),
    applications: Math.max(15, Math.round(60 * Math.sqrt(nodes / 10_000))),
    seed,
    joinMs: Math.min(1, days / 3) * dayMs,
    leavesADay: 0.05,
    forMs: days * dayMs,
    byChance: values['by-chance'],
  })
  for (const line of lines(result)) console.log(line)
  mkdirSync(values.out, { recursive: true })
  const file = join(values.out, values['by-chance'] ? 'matching-by-chance.svg' : 'matching.svg')
  writeFileSync(file, plot(result, nodes))
  console.log(`plot: ${file}`)
  return 0
}

function lines(result: MatchingResult): string[] {
  const { fullMs, loads, gini } = result
  const minutes = (ms: number) => `${(ms / 60_000).toFixed(1)} min`
  const rows: [string, string][] = [
    ['nodes with >= 1 good partner', percent(result.withOne)],
    ['nodes with >= 5 good partners', percent(result.withFive)],
    [
      'for whom there are such at all',
      `>= 1: ${percent(result.possible.withOne)}, >= 5: ${percent(result.possible.withFive)}`,
    ],
    ['of its bytes that the chosen have', percent(result.coverage)],
    ['from joining to a full set', `median ${minutes(fullMs.median)}, 95 % ${minutes(fullMs.ninetyFifth)}`],
    ['never had a full set', percent(fullMs.never)],
    ['messages per node to find partners', result.searchMessages.toFixed(0)],
    ['messages a day to stay announced', result.standingMessagesADay.toFixed(0)],
    ['partners exchanged per node and day', result.exchangesADay.toFixed(3)],
    [
      'agreements per node',
      `median ${loads[loads.length >> 1] ?? 0}, most ${loads.at(-1) ?? 0}, Gini ${gini.toFixed(3)}`,
    ],
  ]
  return rows.map(([label, text]) => `${label.padEnd(40)}${text}`)
}

function plot({ hours, loads }: MatchingResult, nodes: number): string {
  const most = loads.at(-1) ?? 0
  return linePlot([
    {
      title: `Share of ${nodes} nodes with good partners`,
      across: 'hours',
      series: [
        { name: 'at least 1', points: hours.map(({ hour, withOne }) => [hour, 100 * withOne] as const) },
        { name: 'at least 5', points: hours.map(({ hour, withFive }) => [hour, 100 * withFive] as const) },
      ],
    },
    {
      title: 'Nodes with at most so many agreements, %',
      across: 'agreements',
      series: [
        {
          name: 'nodes',
          points: Array.from({ length: most + 1 }, (_, load) => {
            const below = loads.filter((bound) => bound <= load).length
            return [load, (100 * below) / loads.length] as const
          }),
        },
      ],
    },
  ])
}

process.exitCode = await main(process.argv.slice(2))
