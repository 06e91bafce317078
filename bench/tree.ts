/** The tree that is backed up: real files of this machine, up to the wanted size, as a person's directory might hold. */
import { appendFileSync, existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './commands.js'

/** Headers, documentation, scripts, libraries: many small files first, then fewer big ones. */
const sources = [
  '/usr/include',
  '/usr/share/doc',
  '/usr/lib/python3',
  '/usr/lib/python3.11',
  '/usr/lib/python3.12',
  '/usr/share/perl',
  '/usr/share/locale',
  '/usr/lib/gcc',
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/usr/bin',
  '/usr/share',
  '/usr/lib',
]

export interface Tree {
  files: number
  bytes: number
}

/** Copies sources below `dir` until it holds `megabytes`. */
export async function makeTree(dir: string, megabytes: number): Promise<Tree> {
  const tree = { files: 0, bytes: 0 }
  for (const source of sources.filter((path) => existsSync(path))) {
    if (tree.bytes >= megabytes * 1e6) break
    const target = join(dir, source.slice(1).replaceAll('/', '-'))
    await run('cp', ['-a', '--', source, target])
    count(target, tree)
  }
  return tree
}

function count(dir: string, tree: Tree): void {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name)
    if (entry.isDirectory()) count(path, tree)
    else if (entry.isFile()) {
      tree.files++
      tree.bytes += statSync(path).size
    }
  }
}

/** Appends a line to `count` files, spread over the tree. Returns how many there were to choose from. */
export function changeFiles(dir: string, count: number, line: string): number {
  const files = listFiles(dir)
  const step = Math.max(1, Math.floor(files.length / count))
  for (let i = 0; i < Math.min(count, files.length); i++) appendFileSync(files[i * step] ?? '', line)
  return files.length
}

export function listFiles(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(dir, entry.name)
      if (entry.isDirectory()) return listFiles(path)
      return entry.isFile() ? [path] : []
    })
}
