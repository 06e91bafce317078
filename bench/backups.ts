/** The contenders of backups: `kith`, restic, and borg with zstd, each as a user starts it, on a repository of its own. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { endKith, isInstalled, kith, run } from './commands.js'

/** What is measured of one contender on one fresh repository. */
export interface Backup {
  first(): Promise<number>
  again(): Promise<number>
  restore(to: string): Promise<number>
  storedBytes(): Promise<number>
  /** Of a process that stays, MB. */
  memory?(): { anonymous: number; resident: number }
  stop(): Promise<void>
}

/** `place` is for what the contender writes; `plain` is the tree without a mount over it. */
export type Maker = (place: string, tree: string, plain: string) => Promise<Backup>

/** Those that are installed, by name, kith last. */
export function contenders(say: (line: string) => void): [string, Maker][] {
  const peers: [string, Maker][] = [
    ['restic', restic],
    ['borg', borg],
  ]
  const found = peers.filter(([name]) => isInstalled(name))
  for (const [name] of peers)
    if (!found.some(([known]) => known === name)) say(`${name} is not installed: left out`)
  return [...found, ['kith', kithBackup]]
}

async function diskBytes(dir: string): Promise<number> {
  const { stdout } = await run('du', ['-s', '--block-size=1', dir])
  return Number(stdout.split('\t')[0])
}

export async function restic(place: string, _tree: string, plain: string): Promise<Backup> {
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
    first: () => command('backup', plain),
    again: () => command('backup', plain),
    restore: (to) => command('restore', 'latest', '--target', to),
    storedBytes: () => diskBytes(repository),
    stop: () => Promise.resolve(),
  }
}

/** Encrypted as the others are; one archive after the other. */
async function borg(place: string, _tree: string, plain: string): Promise<Backup> {
  const repository = join(place, 'borg')
  let archives = 0
  const command = async (cwd: string, ...args: string[]): Promise<number> => {
    const settings = [`BORG_BASE_DIR=${join(place, 'borg.base')}`, 'BORG_PASSPHRASE=benchmark']
    return (await run('env', ['-C', cwd, ...settings, 'borg', ...args])).seconds
  }
  const create = () => command(place, 'create', '-C', 'zstd,3', `${repository}::${++archives}`, plain)
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
