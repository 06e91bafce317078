/** `kith snapshot [DIR] [--tag TAG] [--pin]` */
import type { Context } from './context.js'
import { optionalDir } from './context.js'
import { excludedText } from './exclude.js'
import { plural, printable, size } from './output.js'

export async function run(
  context: Context,
  [dir]: (string | undefined)[],
  options: { tag?: string[]; pin?: true },
) {
  const { tag: tags, pin: pinned } = options
  const result = await context.call('snapshot', {
    ...optionalDir(dir),
    ...(tags && { tags }),
    ...(pinned && { pinned }),
  })
  context.print(result, () => {
    const { name, files, bytes, bytesNew, problems, problemCount, excluded } = result
    const lines = [`${name}: ${plural(files, 'file')}, ${size(bytes)}; ${size(bytesNew)} new`]
    const left = excludedText(excluded)
    if (left) lines.push(`left out: ${left}`)
    for (const { path, what, why } of problems) lines.push(`! ${printable(path)}: ${what} (${why})`)
    if (problemCount > problems.length) lines.push(`! and ${problemCount - problems.length} more`)
    return lines.join('\n')
  })
}
