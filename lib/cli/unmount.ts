/** `kith unmount DIR [--decommission [--yes]]` */
import { resolve } from 'node:path'
import { KithError } from '../base/errors.js'
import type { Result } from '../daemon/api.js'
import type { Context } from './context.js'
import { plural, printable, size } from './output.js'
import { ask } from './prompt.js'

export async function run(
  context: Context,
  [dir = '']: string[],
  options: { decommission?: true; yes?: true },
) {
  const absolute = resolve(dir)
  if (!options.decommission) {
    if (options.yes) throw new KithError('usage', '--yes goes with --decommission')
    const result = await context.call('unmount', { dir: absolute })
    context.print(result, () => [`${result.dir} is an ordinary directory again.`, ...open(result)].join('\n'))
    return
  }
  const plan = await context.call('decommissionPlan', { dir: absolute })
  context.note(describe(plan))
  if (!options.yes) {
    const answer = await ask('Type yes to go on: ')
    if (answer !== 'yes') throw new KithError('cancelled', 'nothing was changed')
  }
  const result = await context.call('decommission', { dir: absolute })
  context.print(result, () => {
    const lines = [`${result.dir} is an ordinary directory again, and no longer backed up.`, ...open(result)]
    for (const { name, bytes } of result.released) lines.push(`${printable(name)} released ${size(bytes)}.`)
    for (const { name, bytes } of result.waiting) {
      lines.push(`${printable(name)} is off line; it releases ${size(bytes)} when it is met next.`)
    }
    return lines.join('\n')
  })
}

function open({ stillOpen, holders }: Pick<Result<'unmount'>, 'stillOpen' | 'holders'>): string[] {
  const told = new Set(holders.map(({ path }) => path))
  const held = holders.map(({ pid, name, path }) => `${path} (${name}, process ${pid})`)
  const all = [...held, ...stillOpen.filter((path) => !told.has(path))]
  if (all.length === 0) return []
  return [
    `Still open in programs: ${all.map(printable).join(', ')}.`,
    'They go on working until it is closed; what they write is found when it is mounted again.',
  ]
}

function describe(plan: Result<'decommissionPlan'>): string {
  const lines = [`${plan.dir}: the files stay. What goes, for good:`]
  lines.push(`  here: ${plural(plan.snapshots, 'snapshot')}, ${size(plan.bytesHere)}`)
  for (const partner of plan.partners) lines.push(`  ${printable(partner.name)}: ${size(partner.bytesHeld)}`)
  return lines.join('\n')
}
