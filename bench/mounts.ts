/** The contenders of the mount benchmark: the bare directory, kith-fuse, gocryptfs, bindfs, each over its own directory. */
import { spawn } from 'node:child_process'
import {
  accessSync,
  chownSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { nativeFile } from '../lib/base/native-files.js'
import { clean, isInstalled, run, type User } from './commands.js'
import { parameter, whileOffered } from './uring.js'

export interface Contender {
  name: string
  /** where to work */
  dir: string
  stop(): Promise<void>
}

/** Where contenders are mounted, and by whom: by root, or by an ordinary user in a directory the user owns. */
export interface Place {
  dir: string
  /** undefined: whoever runs the benchmark */
  user?: User | undefined
}

/** Mounts every contender that is installed below the place; says which are left out. */
export async function mountAll(place: Place, say: (line: string) => void): Promise<Contender[]> {
  const contenders: Contender[] = []
  const makers = place.user
    ? [bare, kithFuse, kithFuseHelped, kithFuseRing, gocryptfs, bindfs]
    : [bare, kithFuse, kithFuseRing, gocryptfs, bindfs]
  try {
    for (const make of makers) {
      const contender = await make(place)
      if (typeof contender === 'string') say(`${contender}: left out`)
      else contenders.push(contender)
    }
  } catch (error) {
    for (const contender of contenders) await contender.stop()
    throw error
  }
  return contenders
}

function made(place: Place, name: string): string {
  const dir = join(place.dir, name)
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  if (place.user) chownSync(dir, place.user.uid, place.user.gid)
  return dir
}

function bare(place: Place): Promise<Contender> {
  return Promise.resolve({ name: 'bare', dir: made(place, 'bare'), stop: () => Promise.resolve() })
}

/** kith-fuse alone: its log is full after a while, so that a full log's cost is part of the figure. */
async function kithFuse(place: Place): Promise<Contender> {
  const dir = await startKithFuse(place, 'kith', join(place.dir, 'no-helper'), 'off')
  return { name: 'kith', dir, stop: () => unmount(dir, place) }
}

/** The same with requests over io_uring: the kernel's parameter is on while this mount starts, and then as it was. */
async function kithFuseRing(place: Place): Promise<Contender | string> {
  let dir: string
  try {
    accessSync(parameter, constants.W_OK)
    dir = await whileOffered(() => startKithFuse(place, 'kith+ring', join(place.dir, 'no-helper'), 'on'))
  } catch (error) {
    return `kith+ring (${error instanceof Error ? error.message : String(error)})`
  }
  return { name: 'kith+ring', dir, stop: () => unmount(dir, place) }
}

/** The same beside a kith-passthrough that root runs. */
async function kithFuseHelped(place: Place): Promise<Contender> {
  const socket = join(place.dir, 'helper')
  const helper = spawn(nativeFile('kith-passthrough'), [socket], { stdio: 'inherit' })
  try {
    while (helper.exitCode === null && !existsSync(socket)) await delay(5)
    const dir = await startKithFuse(place, 'kith+helper', socket, 'off')
    const stop = async () => {
      await unmount(dir, place)
      helper.kill()
    }
    return { name: 'kith+helper', dir, stop }
  } catch (error) {
    helper.kill()
    throw error
  }
}

async function startKithFuse(
  place: Place,
  name: string,
  socket: string,
  ring: 'on' | 'off',
): Promise<string> {
  const dir = made(place, name)
  const state = made(place, `${name}.state`)
  // A copy: the user may not be let into the folder of the original.
  const program = join(place.dir, 'kith-fuse')
  copyFileSync(nativeFile('kith-fuse'), program)
  const fd = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY)
  const args = ['--dir-fd', '3', '--mountpoint', dir, '--state', state]
  const child = spawn(program, args, {
    ...place.user,
    cwd: '/',
    env: { ...process.env, KITH_PASSTHROUGH_SOCKET: socket, KITH_IO_URING: ring },
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
  rmSync(program)
  if (first !== 'ready') throw new Error(`kith-fuse: ${first}`)
  return dir
}

async function gocryptfs(place: Place): Promise<Contender | string> {
  if (!isInstalled('gocryptfs')) return 'gocryptfs is not installed'
  const cipher = made(place, 'gocryptfs.cipher')
  const dir = made(place, 'gocryptfs')
  const password = join(place.dir, 'gocryptfs.password')
  writeFileSync(password, 'benchmark\n', { mode: 0o600 })
  if (place.user) chownSync(password, place.user.uid, place.user.gid)
  await run('gocryptfs', ['-q', '-init', '-scryptn', '10', '-passfile', password, cipher], place.user)
  await run('gocryptfs', ['-q', '-passfile', password, cipher, dir], place.user)
  return { name: 'gocryptfs', dir, stop: () => unmount(dir, place) }
}

async function bindfs(place: Place): Promise<Contender | string> {
  if (!isInstalled('bindfs')) return 'bindfs is not installed'
  const source = made(place, 'bindfs.source')
  const dir = made(place, 'bindfs')
  await run('bindfs', [...(place.user ? ['--no-allow-other'] : []), source, dir], place.user)
  return { name: 'bindfs', dir, stop: () => unmount(dir, place) }
}

async function unmount(dir: string, { user }: Place): Promise<void> {
  try {
    await clean('fusermount3', ['-u', dir], user)
  } catch {
    await clean('fusermount3', ['-uz', dir], user)
  }
}

/** A tmpfs of its own where root may mount one; otherwise a directory in /dev/shm, which is one. */
export async function memoryPlace(place: string, megabytes: number): Promise<() => Promise<void>> {
  mkdirSync(place, { recursive: true })
  await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0755`, 'kith-bench', place])
  return async () => {
    await clean('umount', ['-l', place])
  }
}
