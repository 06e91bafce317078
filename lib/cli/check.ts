/** `kith check [--read-data[=n/t|x%]]`: exit 9 (damaged) when anything is bad. */
import { KithError } from '../base/errors.js'
import type { Params, Result } from '../daemon/api.js'
import type { Context } from './context.js'
import { plural, printable, size } from './output.js'

export async function run(context: Context, _args: string[], options: { readData?: true | string }) {
  const readData = choice(options.readData)
  const result = await context.call('check', readData ? { readData } : {})
  context.print(result, () => text(result))
  const bad = badness(result)
  if (bad.length > 0)
    throw new KithError('damaged', `${bad.join(', ')}; partners on line help: kith partners`)
}

function choice(given: true | string | undefined): Params<'check'>['readData'] {
  if (given === undefined) return undefined
  if (given === true) return { percent: 100 }
  const slice = /^(\d{1,7})\/(\d{1,7})$/.exec(given)
  const percent = /^(\d{1,3}(?:\.\d+)?)%$/.exec(given)
  if (slice) {
    const [part, of] = [Number(slice[1]), Number(slice[2])]
    if (part >= 1 && part <= of && of <= 1_000_000) return { part, of }
  }
  if (percent && Number(percent[1]) > 0 && Number(percent[1]) <= 100) return { percent: Number(percent[1]) }
  throw new KithError('usage', `--read-data wants n/t (like 1/7) or x% (like 10%), not '${given}'`)
}

/** What is wrong, in a few words each; empty: nothing. */
export function badness(result: Result<'check'>): string[] {
  const { missing, vault } = result
  const damaged = result.damaged + result.unused
  const problems = [result, vault, ...result.volumes].reduce((sum, part) => sum + part.problems.length, 0)
  const bad: string[] = []
  if (damaged > 0) bad.push(`${plural(damaged, 'block')} damaged`)
  if (missing > 0) bad.push(`${plural(missing, 'block')} missing here and at the partners on line`)
  if (vault.damaged > 0) bad.push(`${plural(vault.damaged, 'block')} held for others damaged`)
  if (problems > 0) bad.push(plural(problems, 'problem'))
  return bad
}

export function text(result: Result<'check'>): string {
  const { blocks, blocksRead, bytesRead, unused, vault } = result
  const lines: string[] = []
  for (const volume of result.volumes) {
    const { dir, snapshots, nodes, away, hurt, hurtSnapshots, problems } = volume
    const elsewhere = away > 0 ? `, ${plural(away, 'block')} at partners only` : ''
    const state = hurt.count + hurtSnapshots.count + problems.length > 0 ? 'hurt' : 'all there'
    lines.push(`${dir}: ${plural(snapshots, 'snapshot')}, ${plural(nodes, 'node')}${elsewhere}: ${state}`)
    lines.push(...problems.map((problem) => `  ${problem}`))
    if (hurt.count > 0) lines.push(...listed('files and directories hurt', hurt))
    if (hurtSnapshots.count > 0) lines.push(...listed('snapshots hurt', hurtSnapshots))
  }
  const read = blocksRead > 0 ? `, ${blocksRead} of them read (${size(bytesRead)})` : ', none of them read'
  lines.push(`${plural(blocks, 'block')} here${read}`)
  lines.push(...result.problems.map((problem) => `  ${problem}`))
  if (unused > 0)
    lines.push(`  ${plural(unused, 'damaged block')} that no snapshot needs, as far as they can be read`)
  if (vault.blocks > 0)
    lines.push(`${plural(vault.blocks, 'block')} held for others, ${vault.blocksRead} read`)
  lines.push(...vault.problems.map((problem) => `  ${problem}`))
  return lines.map(printable).join('\n')
}

function listed(what: string, { count, first }: { count: number; first: string[] }): string[] {
  const rest = count - first.length
  return [
    `  ${what}: ${count}`,
    ...first.map((name) => `    ${name}`),
    ...(rest > 0 ? [`    and ${rest} more`] : []),
  ]
}
