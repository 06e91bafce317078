/** The contenders of the mount benchmark: the bare directory, kith-fuse, gocryptfs, bindfs, each over its own directory. */
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, writeFileSync, constants } from 'node:fs'
import { join } from 'node:path'
import { nativeFile } from '../lib/base/native-files.js'
import { clean, isInstalled, run } from './commands.js'

export interface Contender {
  name: string
  /** where to work */
  dir: string
  stop(): Promise<void>
}

/** Mounts every contender that is installed below `place`; says which are left out. */
export async function mountAll(place: string, say: (line: string) => void): Promise<Contender[]> {
  const contenders: Contender[] = []
  const makers = [bare, kithFuse, gocryptfs, bindfs]
  try {
    for (const make of makers) {
      const contender = await make(place)
      if (typeof contender === 'string') say(`${contender} is not installed: left out`)
      else contenders.push(contender)
    }
  } catch (error) {
    for (const contender of contenders) await contender.stop()
    throw error
  }
  return contenders
}

function made(...parts: string[]): string {
  const dir = join(...parts)
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  return dir
}

function bare(place: string): Promise<Contender> {
  return Promise.resolve({ name: 'bare', dir: made(place, 'bare'), stop: () => Promise.resolve() })
}

/** kith-fuse alone: its log is full after a while, so that a full log's cost is part of the figure. */
async function kithFuse(place: string): Promise<Contender> {
  const dir = made(place, 'kith')
  const state = made(place, 'kith.state')
  const fd = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY)
  const args = ['--dir-fd', '3', '--mountpoint', dir, '--state', state]
  const child = spawn(nativeFile('kith-fuse'), args, {
    stdio: ['ignore', 'pipe', 'inherit', fd],
    detached: true,
  })
  closeSync(fd)
  const first = await new Promise<string>((resolve, reject) => {
    let said = ''
    child.on('error', reject)
    child.stdout?.on('data', (data: Buffer) => {
      said += data.toString()
      if (said.includes('\n')) resolve(said.trim())
    })
    child.on('exit', (code) => reject(new Error(`kith-fuse ended with ${code}: ${said.trim()}`)))
  })
  child.unref()
  if (first !== 'ready') throw new Error(`kith-fuse: ${first}`)
  return { name: 'kith', dir, stop: () => unmount(dir) }
}

async function gocryptfs(place: string): Promise<Contender | string> {
  if (!isInstalled('gocryptfs')) return 'gocryptfs'
  const cipher = made(place, 'gocryptfs.cipher')
  const dir = made(place, 'gocryptfs')
  const password = join(place, 'gocryptfs.password')
  writeFileSync(password, 'benchmark\n', { mode: 0o600 })
  await run('gocryptfs', ['-q', '-init', '-scryptn', '10', '-passfile', password, cipher])
  await run('gocryptfs', ['-q', '-passfile', password, cipher, dir])
  return { name: 'gocryptfs', dir, stop: () => unmount(dir) }
}

async function bindfs(place: string): Promise<Contender | string> {
  if (!isInstalled('bindfs')) return 'bindfs'
  const source = made(place, 'bindfs.source')
  const dir = made(place, 'bindfs')
  await run('bindfs', [source, dir])
  return { name: 'bindfs', dir, stop: () => unmount(dir) }
}

async function unmount(dir: string): Promise<void> {
  try {
    await clean('fusermount3', ['-u', dir])
  } catch {
    await clean('fusermount3', ['-uz', dir])
  }
}

/** A tmpfs of its own where root may mount one; otherwise a directory in /dev/shm, which is one. */
export async function memoryPlace(place: string, megabytes: number): Promise<() => Promise<void>> {
  mkdirSync(place, { recursive: true })
  await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0700`, 'kith-bench', place])
  return async () => {
    await clean('umount', ['-l', place])
  }
}
