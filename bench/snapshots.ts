/**
 * `npm run bench -- snapshots`: first backup, unchanged backup, backup of ten changed files, and restore, by the `kith`
 * command as a user starts it, beside restic and borg (zstd) on the same tree; what each of them stores, and the memory of
 * kithd, from /proc: its own (anonymous) and all that is resident, which counts the index as far as it is mapped in. A kith snapshot needs the mount: the first backup's time
 * runs from `kith mount` to the end of the first `kith snapshot`.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { endKith, isInstalled, kith, run } from './commands.js'
import { figures, heading, row } from './measure.js'
import { changeFiles, makeTree } from './tree.js'

export interface SnapshotScale {
  megabytes: number
  /** fresh repositories: each gives one first backup and one restore of each contender */
  rounds: number
  /** unchanged and changed backups within a round */
  repeats: number
}

/** What is measured of one contender on one fresh repository. */
interface Backup {
  first(): Promise<number>
  again(): Promise<number>
  restore(to: string): Promise<number>
  storedBytes(): Promise<number>
  /** Of a process that stays, MB. */
  memory?(): { anonymous: number; resident: number }
  stop(): Promise<void>
}

type Seconds = Map<string, number[]>

export async function benchSnapshots(scale: SnapshotScale, say: (line: string) => void): Promise<void> {
  const place = mkdtempSync(join(tmpdir(), 'kith-bench-'))
  const rounds = { first: new Map(), unchanged: new Map(), changed: new Map(), restore: new Map() } as Record<
    string,
    Seconds
  >
  const stored: Seconds = new Map()
  try {
    const tree = join(place, 'tree')
    mkdirSync(tree)
    const { files, bytes } = await makeTree(tree, scale.megabytes)
    const makers: [string, typeof restic][] = [['kith', kithBackup]]
    if (isInstalled('restic')) makers.unshift(['restic', restic])
    else say('restic is not installed: left out')
    if (isInstalled('borg')) makers.splice(-1, 0, ['borg', borg])
    else say('borg is not installed: left out')
    const [[base] = ['']] = makers
    say(
      `snapshots of ${files} files, ${(bytes / 1e6).toFixed(0)} MB: speed against ${base} (2 is twice as fast)`,
    )
    for (let round = 0; round < scale.rounds; round++) {
      const order = round % 2 === 0 ? makers : [...makers].reverse()
      await oneRound(join(place, `round${round}`), tree, order, scale, rounds, stored, say)
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
  tree: string,
  makers: [string, typeof restic][],
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
      const backup = await make(place, tree)
      backups.set(name, backup)
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
      note('restore', name, await backup.restore(join(place, `${name}.restored`)))
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
  const sizes = names.map((name) => `${((stored.get(name)?.[0] ?? NaN) / 1e6).toFixed(1)} MB`.padStart(12))
  say('stored'.padEnd(26) + sizes.join(''))
  say('')
}

function memoryText({ anonymous, resident }: { anonymous: number; resident: number }): string {
  return `${anonymous.toFixed(0)} MB of its own, ${resident.toFixed(0)} MB resident`
}

async function diskBytes(dir: string): Promise<number> {
  const { stdout } = await run('du', ['-s', '--block-size=1', dir])
  return Number(stdout.split('\t')[0])
}

async function restic(place: string, tree: string): Promise<Backup> {
  const repository = join(place, 'restic')
  const password = join(place, 'restic.password')
  writeFileSync(password, 'benchmark\n', { mode: 0o600 })
  const common = [
    '-q',
    '-r',
    repository,
    '--password-file',
    password,
    '--cache-dir',
    join(place, 'restic.cache'),
  ]
  const command = async (...args: string[]): Promise<number> =>
    (await run('restic', [...common, ...args])).seconds
  await command('init')
  return {
    first: () => command('backup', tree),
    again: () => command('backup', tree),
    restore: (to) => command('restore', 'latest', '--target', to),
    storedBytes: () => diskBytes(repository),
    stop: () => Promise.resolve(),
  }
}

/** Encrypted as the others are; one archive after the other. */
async function borg(place: string, tree: string): Promise<Backup> {
  const repository = join(place, 'borg')
  let archives = 0
  const command = async (cwd: string, ...args: string[]): Promise<number> => {
    const settings = [`BORG_BASE_DIR=${join(place, 'borg.base')}`, 'BORG_PASSPHRASE=benchmark']
    return (await run('env', ['-C', cwd, ...settings, 'borg', ...args])).seconds
  }
  const create = () => command(place, 'create', '-C', 'zstd,3', `${repository}::${++archives}`, tree)
  await command(place, 'init', '-e', 'repokey', repository)
  return {
    first: create,
    again: create,
    restore: (to) => {
      mkdirSync(to)
      return command(to, 'extract', `${repository}::${archives}`)
    },
    storedBytes: () => diskBytes(repository),
    stop: () => Promise.resolve(),
  }
}

function processMemory(pid: number): { anonymous: number; resident: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const megabytes = (field: string) => Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1]) / 1024
  return { anonymous: megabytes('RssAnon'), resident: megabytes('VmRSS') }
}

async function kithBackup(place: string, tree: string): Promise<Backup> {
  const home = join(place, 'kith')
  await kith(home, 'init', '--phrase-out', join(place, 'kith.phrase'))
  return {
    async first() {
      const mounted = await kith(home, 'mount', tree)
      return mounted.seconds + (await kith(home, 'snapshot', tree)).seconds
    },
    again: async () => (await kith(home, 'snapshot', tree)).seconds,
    restore: async (to) => (await kith(home, 'restore', 'latest', '--to', to)).seconds,
    storedBytes: () => diskBytes(join(home, 'store')),
    memory: () => processMemory(Number(readFileSync(join(home, 'kithd.lock'), 'utf8'))),
    stop: () => endKith(home, tree),
  }
}
