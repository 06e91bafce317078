/** The tree that is backed up: real files of this machine, up to the wanted size, as a person's directory might hold. */
import { appendFileSync, existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { clean, run } from './commands.js'

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

/** All of /usr, or as much of its sources above, one after the other, as holds so many bytes. */
export type Extent = 'usr' | { megabytes: number }

/**
 * Of 'usr', what is larger than 4 MiB stays out: on a developer's machine, compilers' libraries of hundreds of megabytes would be
 * most of the bytes, and 100,000 files the least part of the work.
 */
const copyUsr =
  'cd /usr && find . -xdev \\( -type d -o -type l -o -type f -size -8193 \\) -print0' +
  ' | tar -c --null --no-recursion -T - | tar -x -C "$0"'

/** Copies files of this machine below `dir`. */
export async function makeTree(dir: string, extent: Extent): Promise<Tree> {
  const tree = { files: 0, bytes: 0 }
  if (extent === 'usr') {
    await run('sh', ['-c', copyUsr, dir])
    count(dir, tree)
    return tree
  }
  for (const source of sources.filter((path) => existsSync(path))) {
    if (tree.bytes >= extent.megabytes * 1e6) break
    const target = join(dir, source.slice(1).replaceAll('/', '-'))
    await run('cp', ['-a', '--', source, target])
    count(target, tree)
  }
  return tree
}

/**
 * The tree as its own directory has it, for who is not to read it through the mount that is about to come over it. Only root can
 * have that.
 */
export async function besideMount<T>(
  tree: string,
  say: (line: string) => void,
  work: (plain: string) => Promise<T>,
): Promise<T> {
  if (process.getuid?.() !== 0) {
    say('not root: the others read the tree through the mount of kith, too')
    return work(tree)
  }
  const plain = `${tree}.plain`
  mkdirSync(plain)
  await run('mount', ['--bind', tree, plain])
  try {
    await run('mount', ['--make-private', plain])
    return await work(plain)
  } finally {
    await clean('umount', [plain])
    rmdirSync(plain)
  }
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
