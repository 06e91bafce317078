/**
 * `npm run try [DIR]`: kith on this machine alone, to play with: a private DHT, three partners, and DIR (default
 * ~/protected) mounted, until Ctrl-C. `npm run try -- --tour [DIR]`: the whole story, unattended and verified.
 *
 * Everything but DIR lies in one temporary folder. At the end, whatever brings it, the mount goes, the processes end and
 * the folder is removed; the files in DIR stay.
 */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { startNetwork, startOwner } from './try/network.js'
import { endAll, forceUnmount, killAll, kith, kithMain } from './try/processes.js'
import { tour } from './try/tour.js'
import { watchEverything } from './try/watch.js'

const { values, positionals } = parseArgs({ options: { tour: { type: 'boolean' } }, allowPositionals: true })
const state = mkdtempSync(join(tmpdir(), 'kith-try-'))
const dir = resolve(positionals[0] ?? (values.tour ? join(state, 'protected') : join(homedir(), 'protected')))
const owner = join(state, 'owner')

let ending = false
let mounted = false
let leave: () => void = () => undefined
const left = new Promise<void>((resolve) => (leave = resolve))

function say(line: string): void {
  if (!ending) process.stdout.write(`${line}\n`)
}

async function cleanUp(): Promise<void> {
  if (ending) return
  ending = true
  for (const home of [owner, join(state, 'recovered')]) {
    if (mounted) await kith(['unmount', dir], home).catch(() => undefined)
    await kith(['stop'], home).catch(() => undefined)
  }
  if (mounted) forceUnmount(dir)
  mounted = false
  await endAll()
  rmSync(state, { recursive: true, force: true })
}

/** `kith` for the user's other terminal, in the same home. */
function writeCommand(): string {
  const bin = join(state, 'kith')
  writeFileSync(bin, `#!/bin/sh\nexec "${process.execPath}" "${kithMain}" --home "${owner}" "$@"\n`)
  chmodSync(bin, 0o755)
  return bin
}

async function play(): Promise<void> {
  say('Starting a private DHT and three partners on this machine...')
  const network = await startNetwork(state)
  const phrase = join(state, 'phrase.txt')
  await startOwner(owner, phrase, network)
  mkdirSync(dir, { recursive: true })
  mounted = true
  await kith(['mount', dir], owner)
  const bin = writeCommand()
  say(`
${dir} is protected, with three partners. Leave this running, and try in another terminal:

    alias kith=${bin}
    echo "my novel" > ${join(dir, 'novel.txt')}
    kith snapshot                     # takes one now; by itself once an hour
    kith sync                         # waits until every partner has it
    rm ${join(dir, 'novel.txt')}
    ls ${join(dir, '.snapshots')}
    cat ${join(dir, '.snapshots/latest/novel.txt')}
    kith status
    kith audit                        # has the partners prove what they hold
    kith recover --home ${join(state, 'recovered')} --bootstrap ${network.bootstrap} \\
        --phrase-file ${phrase} --to /tmp/recovered

Ctrl-C ends it; your files stay in ${dir}. What happens:
`)
  const unwatch = watchEverything(dir, owner, (line) => say(`  ${new Date().toLocaleTimeString()}  ${line}`))
  await left
  await unwatch()
  process.stdout.write('\nEnding: unmounting, stopping the partners...\n')
}

async function takeTour(): Promise<void> {
  mkdirSync(dir, { recursive: true })
  if (readdirSync(dir).length > 0) throw new Error(`${dir} is not empty; the tour wipes its directory`)
  mounted = true
  await tour(dir, state, say)
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => leave())
process.on('exit', () => {
  killAll()
  if (mounted) forceUnmount(dir)
})

let code = 0
try {
  const interrupted = left.then(() => {
    if (values.tour) throw new Error('interrupted')
  })
  await Promise.race([values.tour ? takeTour() : play(), interrupted])
} catch (error) {
  process.stderr.write(`try: ${error instanceof Error ? error.message : String(error)}\n`)
  code = 1
}
await cleanUp()
process.exit(code)
