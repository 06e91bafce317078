/**
 * `npm run bench -- mount`: what a program pays for working on the mount instead of the bare directory, beside bindfs and
 * gocryptfs, on tmpfs (no disk hides the cost) and on the file system of the temporary directory. As root all is done
 * twice: by root, and by an ordinary user, whose mounts go through fusermount3, without and with kith-passthrough. `kith+ring`
 * gets its requests over io_uring, all others over the device; both are without the daemon.
 */
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root, run, type User } from './commands.js'
import { figures, heading, lead, row, take } from './measure.js'
import { memoryPlace, mountAll, type Contender, type Place } from './mounts.js'

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
  ['random read and write', 'random-both'],
  ['create', 'create'],
  ['stat, the first', 'stat'],
  ['stat, again', 'stat'],
  ['rename', 'rename'],
  ['unlink', 'unlink'],
] as const

const storms = new Set<string>(['create', 'stat', 'rename', 'unlink'])

export async function benchMount(scale: Scale, say: (line: string) => void): Promise<void> {
  const built = join(root, 'dist/bench/exerciser')
  mkdirSync(join(root, 'dist/bench'), { recursive: true })
  const flags = ['-std=c++20', '-O2', '-Wall', '-Wextra', '-Werror']
  await run('g++', [...flags, '-o', built, join(root, 'bench/exerciser.cc')])
  const asRoot = process.getuid?.() === 0
  const place = mkdtempSync(join(tmpdir(), 'kith-bench-'))
  chmodSync(place, 0o755)
  const exerciser = join(place, 'exerciser')
  copyFileSync(built, exerciser)
  try {
    const memory = join(place, 'memory')
    if (asRoot) {
      const release = await memoryPlace(memory, scale.megabytes * 7 + 256)
      try {
        await benchPlace('tmpfs', { dir: memory }, exerciser, scale, say)
        await asOrdinaryUser('tmpfs', memory, exerciser, scale, say)
      } finally {
        await release()
      }
    } else {
      say('tmpfs: only root can mount one; left out')
    }
    const disk = join(place, 'disk')
    mkdirSync(disk)
    const type = (await run('df', ['--output=fstype', disk])).stdout.split('\n')[1] ?? 'disk'
    await benchPlace(type, { dir: disk }, exerciser, scale, say)
    if (asRoot) await asOrdinaryUser(type, disk, exerciser, scale, say)
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

/** The user behind sudo, else the first one of a usual system. The device is opened to users for this time. */
async function asOrdinaryUser(
  what: string,
  within: string,
  exerciser: string,
  scale: Scale,
  say: (line: string) => void,
): Promise<void> {
  const user: User = {
    uid: Number(process.env.SUDO_UID ?? 1000),
    gid: Number(process.env.SUDO_GID ?? 1000),
  }
  const dir = join(within, 'user')
  mkdirSync(dir)
  chownSync(dir, user.uid, user.gid)
  const { mode } = statSync('/dev/fuse')
  chmodSync('/dev/fuse', 0o666)
  try {
    await benchPlace(`${what} as an ordinary user`, { dir, user }, exerciser, scale, say)
  } finally {
    chmodSync('/dev/fuse', mode & 0o7777)
  }
}

async function benchPlace(
  what: string,
  place: Place,
  exerciser: string,
  scale: Scale,
  say: (line: string) => void,
): Promise<void> {
  const contenders = await mountAll(place, say)
  const columns = contenders.map(({ name }) => name)
  say(
    `mount on ${what}: speed as a share of the bare directory's (1 is equal; medians of ${scale.rounds} rounds)`,
  )
  const peers = columns.filter((name) => name === 'gocryptfs' || name === 'bindfs')
  const ours = columns.filter((name) => name.startsWith('kith'))
  const leads = peers.length > 0 ? ours.map((name) => `${name}/peer`) : []
  if (leads.length > 0) say(`${leads.join(', ')}: how many times as fast as the better peer`)
  say(heading(columns) + leads.map((name) => name.padStart(18)).join(''))
  try {
    for (const [label, workload] of workloads) {
      const turns = new Map(
        contenders.map((contender) => [
          contender.name,
          turn(contender, workload, exerciser, scale, place.user),
        ]),
      )
      const taken = await take(turns, scale.rounds)
      const ahead = leads.map((_, i) => (lead(taken, ours[i] ?? '', peers)?.toFixed(2) ?? '-').padStart(18))
      say(row(label, columns, figures(taken)) + ahead.join(''))
    }
  } finally {
    for (const contender of contenders) await contender.stop()
  }
  // Room for the next set.
  for (const { dir } of contenders) rmSync(dir, { recursive: true, force: true })
  say('')
}

/** Each round of a storm has a directory of its own; create leaves files for stat, rename and unlink of that round. */
function turn(
  contender: Contender,
  workload: string,
  exerciser: string,
  scale: Scale,
  user: User | undefined,
): () => Promise<number> {
  let round = 0
  return async () => {
    const storm = storms.has(workload)
    const dir = storm ? join(contender.dir, `round${round++}`) : contender.dir
    if (workload === 'create') await run('mkdir', [dir], user)
    const amount = storm ? scale.files : scale.megabytes
    const { stdout } = await run(exerciser, [workload, dir, String(amount)], user)
    return Number(stdout) / 1e9
  }
}
