/**
 * Commands that are typed often, and by scripts every minute, recognised without the argument parser: loading that takes
 * longer than most of them. `[--home DIR] [--bootstrap ...] [--json] COMMAND [DIR]`, the options anywhere. Whatever is not exactly of this form
 * is no quick command, and goes the way of all others (program.ts): the two must mean the same.
 */
import { Context, type GlobalOptions } from './context.js'

/** Each takes at most a DIR; with options of their own they are not quick. */
const commands = {
  snapshot: () => import('./snapshot.js'),
  snapshots: () => import('./snapshots.js'),
  status: () => import('./status.js'),
}

export interface QuickCommand {
  name: keyof typeof commands
  args: string[]
  options: GlobalOptions
}

export function quickCommand(argv: readonly string[]): QuickCommand | undefined {
  const options: GlobalOptions = {}
  const words: string[] = []
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? ''
    if (word === '--json') options.json = true
    else if (word === '--home' && i + 1 < argv.length) options.home = argv[++i] ?? ''
    else if (word === '--bootstrap' && i + 1 < argv.length) options.bootstrap = argv[++i] ?? ''
    else if (word.startsWith('-')) return undefined
    else words.push(word)
  }
  const [first, ...args] = words
  if (first === undefined || !isQuick(first) || args.length > 1) return undefined
  return { name: first, args, options }
}

export async function runQuick({ name, args, options }: QuickCommand): Promise<void> {
  const { run } = await commands[name]()
  await run(new Context(options), args, {})
}

function isQuick(word: string): word is QuickCommand['name'] {
  return Object.hasOwn(commands, word)
}
