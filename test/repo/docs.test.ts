// What the documents say of the repository is so: files they name exist, commands they show exist.
import t from 'tap'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import { root, sources, text } from '../helpers/sources.js'

// A command line is started for each line of the README.
t.setTimeout(280_000)

const documents = ['README.md', ...sources('docs', '.md')]
const main = join(root, 'dist/lib/cli/main.js')

/** A file, a module without its ending, or the beginning of files' names before a `*`. */
function exists(path: string): boolean {
  if (!path.endsWith('*')) return existsSync(join(root, path)) || existsSync(join(root, `${path}.ts`))
  return sources(dirname(path), '').some((file) => file.startsWith(path.slice(0, -1)))
}

function help(...args: string[]): string {
  const { stdout, status } = spawnSync(process.execPath, [main, ...args, '--help'], { encoding: 'utf8' })
  return status === 0 ? stdout : ''
}

t.test('files that documents and comments name exist', (t) => {
  const named = /(?<![\w@/.-])(?:lib|native|scripts|test|docs|bench|man|types)\/[\w./-]*[\w*]/g
  const missing: string[] = []
  for (const file of [
    ...documents,
    ...sources('man', '.1'),
    ...sources('lib', '.ts'),
    ...sources('native', '.cc', '.h'),
  ])
    for (const [path] of text(file).matchAll(named)) if (!exists(path)) missing.push(`${file}: ${path}`)
  t.same(missing, [])
  t.end()
})

t.test('links between documents lead somewhere', (t) => {
  const broken: string[] = []
  for (const file of documents)
    for (const [, target = ''] of text(file).matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g))
      if (!existsSync(join(root, dirname(file), target))) broken.push(`${file}: ${target}`)
  t.same(broken, [])
  t.end()
})

t.test('every command and option that the README shows is one', (t) => {
  const commands = new Set([...help().matchAll(/^ {2}([a-z]+)/gm)].map(([, name]) => name))
  t.ok(commands.size > 8, 'the command line lists its commands')
  const shown = [...text('README.md').matchAll(/(?:^ {4}|`)kith ([a-z]+)((?: [^`#\n]*)?)/gm)]
  t.ok(shown.length > 8)
  for (const [, command = '', rest = ''] of shown) {
    t.ok(commands.has(command), `kith ${command}`)
    const options = rest.match(/--[a-z-]+/g) ?? []
    if (options.length === 0) continue
    const known = help() + help(command)
    for (const option of options) t.ok(known.includes(option), `kith ${command} ${option}`)
  }
  t.end()
})

t.test('npm scripts that the README shows exist', (t) => {
  const { scripts } = JSON.parse(text('package.json')) as { scripts: Record<string, string> }
  for (const [, name = ''] of text('README.md').matchAll(/npm run ([a-z:]+)/g))
    t.ok(scripts[name], `npm run ${name}`)
  t.end()
})

t.test('the manual has every command and every exit code', (t) => {
  const manual = text('man/kith.1').replaceAll('\\-', '-')
  for (const [, name = ''] of help().matchAll(/^ {2}([a-z]+)/gm))
    if (name !== 'help') t.match(manual, new RegExp(`\\b${name}\\b`), name)
  for (const [cause, code] of Object.entries(exitCodes))
    t.match(manual, new RegExp(`\\b${code}\\b`), `${cause} ${code}`)
  t.end()
})
