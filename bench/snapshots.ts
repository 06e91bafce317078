/**
 * `npm run bench -- snapshots`: first backup, unchanged backup, backup of ten changed files, and restore, by the `kith`
 * command as a user starts it, beside restic and borg (zstd) on the same tree; what each of them stores, and the memory of
 * kithd, from /proc: its own (anonymous) and all that is resident, which counts the index as far as it is mapped in. A kith snapshot needs the mount: the first backup's time
 * runs from `kith mount` to the end of the first `kith snapshot`. What others wrote and did not sync is on the disk before one is
 * measured: kith syncs what it restores, and would wait for theirs. What the others restore is on the disk some time after they end: that has
 * a line of its own. The others read the tree beside the mount, not through it, and everybody's first backup finds the tree in the
 * page cache: borg has the kernel forget what it read, which only the next one would feel.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { contenders, type Backup, type Maker } from './backups.js'
import { run } from './commands.js'
import { figures, heading, row } from './measure.js'
import { besideMount, changeFiles, makeTree, type Extent } from './tree.js'

export interface SnapshotScale {
  tree: Extent
  /** fresh repositories: each gives one first backup and one restore of each contender */
  rounds: number
  /** unchanged and changed backups within a round */
  repeats: number
}

type Seconds = Map<string, number[]>

export async function benchSnapshots(scale: SnapshotScale, say: (line: string) => void): Promise<void> {
  const place = mkdtempSync(join(tmpdir(), 'kith-bench-'))
  const rounds: Record<string, Seconds> = Object.fromEntries(
    ['first', 'unchanged', 'changed', 'restore', 'durable'].map((what) => [what, new Map()]),
  )
  const stored: Seconds = new Map()
  try {
    const tree = join(place, 'tree')
    mkdirSync(tree)
    const { files, bytes } = await makeTree(tree, scale.tree)
    const makers = contenders(say)
    const [[base] = ['']] = makers
    say(
      `snapshots of ${files} files, ${(bytes / 1e6).toFixed(0)} MB: speed against ${base} (2 is twice as fast)`,
    )
    for (let round = 0; round < scale.rounds; round++) {
      const order = round % 2 === 0 ? makers : [...makers].reverse()
      await besideMount(tree, say, (plain) =>
        oneRound(join(place, `round${round}`), { tree, plain }, order, scale, rounds, stored, say),
      )
    }
    report(
      makers.map(([name]) => name),
      rounds,
      stored,
      say,
    )
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

async function oneRound(
  place: string,
  { tree, plain }: { tree: string; plain: string },
  makers: [string, Maker][],
  scale: SnapshotScale,
  rounds: Record<string, Seconds>,
  stored: Seconds,
  say: (line: string) => void,
): Promise<void> {
  mkdirSync(place)
  const backups = new Map<string, Backup>()
  const note = (what: string, name: string, seconds: number): void =>
    add(rounds[what] ?? new Map(), name, seconds)
  try {
    for (const [name, make] of makers) {
      const backup = await make(place, tree, plain)
      backups.set(name, backup)
      await run('sync', [])
      await run('sh', ['-c', 'find "$0" -type f -exec cat {} + > /dev/null', plain])
      note('first', name, await backup.first())
      const memory = backup.memory?.()
      if (memory) say(`${name}d after its first backup: ${memoryText(memory)}`)
    }
    for (let i = 0; i < scale.repeats; i++)
      for (const [name, backup] of backups) note('unchanged', name, await backup.again())
    for (let i = 0; i < scale.repeats; i++) {
      changeFiles(tree, 10, `changed ${place} ${i}\n`)
      for (const [name, backup] of backups) note('changed', name, await backup.again())
    }
    for (const [name, backup] of backups) {
      await run('sync', [])
      const to = join(place, `${name}.restored`)
      const seconds = await backup.restore(to)
      note('restore', name, seconds)
      note('durable', name, seconds + (await run('sync', ['-f', to])).seconds)
      add(stored, name, await backup.storedBytes())
      const memory = backup.memory?.()
      if (memory) say(`${name}d after all that: ${memoryText(memory)}`)
    }
  } finally {
    for (const backup of backups.values()) await backup.stop()
    rmSync(place, { recursive: true, force: true })
  }
}

function add(to: Seconds, name: string, value: number): void {
  to.set(name, [...(to.get(name) ?? []), value])
}

function report(
  names: string[],
  rounds: Record<string, Seconds>,
  stored: Seconds,
  say: (line: string) => void,
): void {
  const ordered = (what: Seconds | undefined): Seconds =>
    new Map(names.map((name) => [name, what?.get(name) ?? []]))
  say(heading(names))
  say(row('first backup', names, figures(ordered(rounds.first))))
  say(row('unchanged', names, figures(ordered(rounds.unchanged))))
  say(row('10 files changed', names, figures(ordered(rounds.changed))))
  say(row('restore', names, figures(ordered(rounds.restore))))
  say(row('  until it is on the disk', names, figures(ordered(rounds.durable))))
  const sizes = names.map((name) => `${((stored.get(name)?.[0] ?? NaN) / 1e6).toFixed(1)} MB`.padStart(12))
  say('stored'.padEnd(26) + sizes.join(''))
  say('')
}

function memoryText({ anonymous, resident }: { anonymous: number; resident: number }): string {
  return `${anonymous.toFixed(0)} MB of its own, ${resident.toFixed(0)} MB resident`
}
