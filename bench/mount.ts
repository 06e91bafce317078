/**
 * `npm run bench -- mount`: what a program pays for working on the mount instead of the bare directory, beside bindfs and
 * gocryptfs, on tmpfs (no disk hides the cost) and on the file system of the temporary directory.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root, run } from './commands.js'
import { compare, heading, row } from './measure.js'
import { memoryPlace, mountAll, type Contender } from './mounts.js'

export interface Scale {
  /** MiB of the big file */
  megabytes: number
  /** files of the storms of creates and stats */
  files: number
  rounds: number
}

/** In this order: each finds what the ones before left. */
const workloads = [
  ['write, 1 MiB requests', 'write'],
  ['write, 4 KiB requests', 'write-4k'],
  ['write, then fsync', 'write-fsync'],
  ['read, warm', 'read'],
  ['random read, 4 KiB', 'random-read'],
  ['random write, 4 KiB', 'random-write'],
  ['create', 'create'],
  ['stat', 'stat'],
  ['rename', 'rename'],
  ['unlink', 'unlink'],
] as const

const storms = new Set<string>(['create', 'stat', 'rename', 'unlink'])

export async function benchMount(scale: Scale, say: (line: string) => void): Promise<void> {
  const exerciser = join(root, 'dist/bench/exerciser')
  mkdirSync(join(root, 'dist/bench'), { recursive: true })
  await run('g++', [
    '-std=c++20',
    '-O2',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-o',
    exerciser,
    join(root, 'bench/exerciser.cc'),
  ])
  const place = mkdtempSync(join(tmpdir(), 'kith-bench-'))
  try {
    const memory = join(place, 'memory')
    try {
      const release = await memoryPlace(memory, scale.megabytes * 6 + 256)
      try {
        await benchPlace('tmpfs', memory, exerciser, scale, say)
      } finally {
        await release()
      }
    } catch (error) {
      if (process.getuid?.() === 0) throw error
      say('tmpfs: only root can mount one; left out')
    }
    const disk = join(place, 'disk')
    mkdirSync(disk)
    const type = (await run('df', ['--output=fstype', disk])).stdout.split('\n')[1] ?? 'disk'
    await benchPlace(type, disk, exerciser, scale, say)
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

async function benchPlace(
  what: string,
  place: string,
  exerciser: string,
  scale: Scale,
  say: (line: string) => void,
): Promise<void> {
  const contenders = await mountAll(place, say)
  const columns = contenders.map(({ name }) => name)
  say(
    `mount on ${what}: speed as a share of the bare directory's (1 is equal; medians of ${scale.rounds} rounds)`,
  )
  say(heading(columns))
  try {
    for (const [label, workload] of workloads) {
      const turns = new Map(
        contenders.map((contender) => [contender.name, turn(contender, workload, exerciser, scale)]),
      )
      say(row(label, columns, await compare(turns, scale.rounds)))
    }
  } finally {
    for (const contender of contenders) await contender.stop()
  }
  say('')
}

/** Each round of a storm has a directory of its own; create leaves files for stat, rename and unlink of that round. */
function turn(
  contender: Contender,
  workload: string,
  exerciser: string,
  scale: Scale,
): () => Promise<number> {
  let round = 0
  return async () => {
    const storm = storms.has(workload)
    const dir = storm ? join(contender.dir, `round${round++}`) : contender.dir
    if (workload === 'create') mkdirSync(dir)
    const amount = storm ? scale.files : scale.megabytes
    const { stdout } = await run(exerciser, [workload, dir, String(amount)])
    return Number(stdout) / 1e9
  }
}
