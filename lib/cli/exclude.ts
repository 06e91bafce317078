/** `kith exclude [DIR]`: what is left out of snapshots; shown, changed, or tried. `kith mount` has the same options. */
import type { Excluded, ExcludeChange, Item, Result } from '../daemon/api.js'
import { optionalDir, type Context } from './context.js'
import { parseSize, plural, printable, shownPath, size } from './output.js'

export interface ExcludeOptions {
  exclude?: string[]
  remove?: string[]
  excludeCaches?: boolean
  excludeLargerThan?: string
  dryRun?: boolean
}

/** What the options ask for, if anything. */
export function changeOf(options: ExcludeOptions): ExcludeChange | undefined {
  const { exclude: add, remove, excludeCaches: caches, excludeLargerThan: limit } = options
  const change: ExcludeChange = {
    ...(add && { add }),
    ...(remove && { remove }),
    ...(caches !== undefined && { caches }),
    ...(limit !== undefined && { largerThan: limit === 'none' ? null : parseSize(limit) }),
  }
  return Object.keys(change).length > 0 ? change : undefined
}

export async function run(context: Context, [dir]: (string | undefined)[], options: ExcludeOptions) {
  const change = changeOf(options)
  const params = { ...optionalDir(dir), ...(change && { change }) }
  if (options.dryRun) {
    const { names } = await context.list('wouldExclude', params, line)
    context.note(`${plural(names, 'name')} would be left out`)
    return
  }
  const result = await context.call('exclude', params)
  context.print(result, () => text(result))
}

const reasons = { pattern: 'a pattern', cache: 'in a cache', large: 'too large' }

function line(item: Item<'wouldExclude'>): string {
  const path = shownPath(item) + (item.type === 'directory' ? '/' : '')
  return `${path}  (${reasons[item.reason]}${item.reason === 'large' ? `: ${size(item.size)}` : ''})`
}

function text({ dir, patterns, caches, largerThan, excluded, changed }: Result<'exclude'>): string {
  const lines = patterns.map((pattern) => `pattern:      ${printable(pattern)}`)
  if (caches) lines.push('caches:       directories with a CACHEDIR.TAG')
  if (largerThan !== null) lines.push(`larger than:  ${size(largerThan)}`)
  if (lines.length === 0)
    lines.push(`Nothing is set for ${printable(dir)}; .kithignore files hold in any case.`)
  const left = excludedText(excluded)
  if (left) lines.push(`The last snapshot left out ${left}.`)
  if (changed) lines.push('This holds from the next snapshot on. What earlier ones have stays in them.')
  return lines.join('\n')
}

/** `12 names by patterns, 1 cache, 2 files too large`; empty for nothing. */
export function excludedText({ pattern, cache, large }: Excluded): string {
  const parts = []
  if (pattern > 0) parts.push(`${plural(pattern, 'name')} by patterns`)
  if (cache > 0) parts.push(plural(cache, 'cache'))
  if (large > 0) parts.push(`${plural(large, 'file')} too large`)
  return parts.join(', ')
}
