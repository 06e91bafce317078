/**
 * `npm run bench -- browse`: what it costs to look through a snapshot instead of the live mount: `ls -lR` and `grep -r` over
 * many small files, and one big file, each with the kernel's caches dropped before (which only root can do), by the real
 * daemon. Both contenders read the same tree, through the same mount.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { seeded } from '../lib/base/random.js'
import { endKith, kith, run } from './commands.js'
import { compare, heading, row, type Turn } from './measure.js'

export interface BrowseScale {
  files: number
  /** MiB of the one big file */
  megabytes: number
  rounds: number
}

const filesPerDirectory = 100
const words = [
  'the',
  'water',
  'return',
  'int',
  'and',
  'letter',
  'if',
  'void',
  'garden',
  '{',
  '}',
  'of',
  '= 0;',
]

/** Text of 100 bytes to 12 KB, 4 KB on average, as sources and letters are; it compresses to about a third. */
function text(random: () => number): string {
  const length = random() % 8 === 0 ? 100 + (random() % 400) : 1000 + (random() % 7000)
  let out = ''
  while (out.length < length)
    out += `${words[random() % words.length]} ${random() % 5 === 0 ? random() : ''} `
  return out
}

function makeTree(dir: string, { files, megabytes }: BrowseScale): void {
  const random = seeded(11)
  const directories = Math.ceil(files / filesPerDirectory)
  for (let d = 0; d < directories; d++) {
    const below = join(dir, 'many', `group ${d % 10}`, `directory ${d}`)
    mkdirSync(below, { recursive: true })
    for (let f = 0; f < filesPerDirectory; f++) writeFileSync(join(below, `file ${f}.txt`), text(random))
  }
  const piece = Buffer.alloc(1 << 20)
  mkdirSync(join(dir, 'big'))
  for (let m = 0; m < megabytes; m++) {
    for (let at = 0; at < piece.length; at += 4) piece.writeUInt32LE(random(), at)
    writeFileSync(join(dir, 'big', 'file'), piece, { flag: 'a' })
  }
}

async function shell(command: string, dir: string): Promise<number> {
  return (await run('sh', ['-c', command, 'sh', dir])).seconds
}

async function dropCaches(): Promise<void> {
  await run('sh', ['-c', 'sync; echo 3 > /proc/sys/vm/drop_caches'])
}

/** In each: $1 is the directory. grep finds nothing, so that it reads everything. */
const workloads: [label: string, cold: boolean, command: string][] = [
  ['ls -lR, cold', true, 'ls -lR "$1/many" > /dev/null'],
  ['ls -lR, again', false, 'ls -lR "$1/many" > /dev/null'],
  ['grep -r, cold', true, 'grep -rq "no such line" "$1/many"; [ $? = 1 ]'],
  ['grep -r, again', false, 'grep -rq "no such line" "$1/many"; [ $? = 1 ]'],
  ['find, cold', true, 'find "$1/many" > /dev/null'],
  ['read a big file, cold', true, 'cat "$1/big/file" > /dev/null'],
]

export async function benchBrowse(scale: BrowseScale, say: (line: string) => void): Promise<void> {
  if (process.getuid?.() !== 0) {
    say("browse: only root can drop the kernel's caches; left out")
    return
  }
  const place = mkdtempSync(join(tmpdir(), 'kith-bench-'))
  try {
    const dir = join(place, 'tree')
    makeTree(dir, scale)
    const home = join(place, 'kith')
    await kith(home, 'init', '--phrase-out', join(place, 'kith.phrase'))
    try {
      await kith(home, 'mount', dir)
      await kith(home, 'snapshot', dir)
      say(
        `browse ${scale.files} small files and one of ${scale.megabytes} MB: a snapshot against the live mount`,
      )
      await measure(dir, scale.rounds, say)
      await measureListing(home, dir, say)
    } finally {
      await endKith(home, dir)
    }
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

async function measure(dir: string, rounds: number, say: (line: string) => void): Promise<void> {
  const contenders: [string, string][] = [
    ['live', dir],
    ['snapshot', join(dir, '.snapshots', 'latest')],
  ]
  const names = contenders.map(([name]) => name)
  say(heading(names))
  for (const [label, cold, command] of workloads) {
    const turns = new Map<string, Turn>(
      contenders.map(([name, where]) => [
        name,
        async () => {
          await dropCaches()
          if (!cold) await shell(command, where)
          return shell(command, where)
        },
      ]),
    )
    say(row(label, names, await compare(turns, rounds)))
  }
}

/** How soon a new snapshot is seen. */
async function measureListing(home: string, dir: string, say: (line: string) => void): Promise<void> {
  writeFileSync(join(dir, 'changed'), 'changed\n')
  await kith(home, 'snapshot', dir)
  const started = performance.now()
  await run('ls', ['-l', join(dir, '.snapshots')])
  say(
    `ls -l .snapshots after a snapshot: ${Math.round(performance.now() - started)} ms, with the start of ls`,
  )
  say('')
}
