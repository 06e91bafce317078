/**
 * The process of one browse mount: libfuse 2 by way of fuse-native, which is loaded here and nowhere else, so that a fault of
 * it costs this process and not the daemon. It asks the daemon over its channel (browse-messages.ts), and lives as long as
 * the mount and the channel both do: without the daemon it unmounts and ends, and when somebody unmounts it, it ends.
 */
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import type Fuse from 'fuse-native'
import type { FuseOperations, FuseStat } from 'fuse-native'
import { systemClock } from '../base/clock.js'
import { assert } from '../base/errors.js'
import { isText, nameText } from '../base/path-text.js'
import type { BridgeAttributes } from '../format/bridge.js'
import { BrowseError, BrowseFs } from './browse-fs.js'
import type { FromBrowse, ToBrowse } from './browse-messages.js'
import { browseType, detach, isMountedAt } from './mount-table.js'

const clock = systemClock
const lookMs = 500
const { EIO, ERANGE } = constants.errno
const blockBytes = 4096
const longestName = 255

const waiting = new Map<number, (answer: { errno: number; body: Buffer }) => void>()
let asked = 0

function tell(message: FromBrowse): void {
  // A daemon that is gone is noticed by 'disconnect'.
  process.send?.(message, undefined, undefined, () => undefined)
}

const fs = new BrowseFs((type, payload) => {
  const id = asked++
  tell({ kind: 'ask', id, type, payload })
  return new Promise((resolve) => waiting.set(id, resolve))
}, clock)

/** Runs the operation, and gives its result or the errno, negative. */
function perform<T>(operation: Promise<T>, done: (value: T) => void, failed: (errno: number) => void): void {
  operation.then(done, (error: unknown) => failed(error instanceof BrowseError ? -error.errno : -EIO))
}

function text(bytes: Buffer): string {
  return isText(bytes) ? bytes.toString() : nameText(bytes)
}

function statOf(attributes: BridgeAttributes): FuseStat {
  const { mode, uid, gid, size, nlink, rdev, blocks, mtimeNs } = attributes
  const mtime = Math.max(0, Math.floor(Number(mtimeNs / 1_000_000n)))
  const times = { atime: mtime, mtime, ctime: mtime }
  return { mode, uid, gid, size, nlink, rdev: Number(rdev), blksize: blockBytes, blocks, ...times }
}

const operations: FuseOperations = {
  statfs: (_path, done) => done(0, { bsize: blockBytes, frsize: blockBytes, namemax: longestName }),
  getattr: (path, done) => perform(fs.getattr(path), (found) => done(0, statOf(found)), done),
  readdir: (path, done) => perform(fs.readdir(path), (names) => done(0, names), done),
  open: (_path, _flags, done) => done(0, 0),
  read: (path, _handle, into, length, offset, done) =>
    perform(fs.read(path, offset, length), (bytes) => done(bytes.copy(into)), done),
  readlink: (path, done) => perform(fs.readlink(path), (target) => done(0, text(target)), done),
  getxattr: (_path, _name, _position, done) => done(-EIO),
  listxattr: (_path, done) => done(-EIO),
}

function load(): typeof Fuse {
  return createRequire(import.meta.url)('fuse-native') as typeof Fuse
}

function mount(mountpoint: string): void {
  let Engine: typeof Fuse
  try {
    Engine = load()
  } catch (error) {
    return failed(whyNot(error instanceof Error ? error.message : String(error)))
  }
  class ReadOnly extends Engine {
    override _fuseOptions(): string {
      return `-oro,nosuid,nodev,fsname=kith,subtype=${browseType.slice('fuse.'.length)}`
    }

    // Its own copies beyond the memory that the caller has, and knows names that are UTF-8 only.
    override _op_getxattr(
      signal: (result: number, memory: ArrayBufferLike) => void,
      path: string,
      name: string,
      into: Buffer,
    ): void {
      const done = (result: number) => signal(result, into.buffer)
      perform(fs.getxattr(path, name), (value) => done(fill(into, value)), done)
    }

    override _op_listxattr(
      signal: (result: number, memory: ArrayBufferLike) => void,
      path: string,
      into: Buffer,
    ): void {
      const done = (result: number) => signal(result, into.buffer)
      perform(fs.listxattr(path), (names) => done(fill(into, names)), done)
    }
  }
  const fuse = new ReadOnly(mountpoint, operations, { timeout: false })
  fuse.mount((error) => {
    if (error) {
      failed({ code: 'denied', message: `cannot mount ${mountpoint}: ${error.message}` })
      return
    }
    tell({ kind: 'mounted' })
    watch(mountpoint)
    process.once('disconnect', () => unmount(mountpoint))
  })
}

/** The length alone where nothing is to be filled. */
function fill(into: Buffer, value: Buffer): number {
  if (into.length === 0) return value.length
  if (into.length < value.length) return -ERANGE
  return value.copy(into)
}

function whyNot(message: string): Omit<FromBrowse & { kind: 'failed' }, 'kind'> {
  const code = 'unsupported'
  if (message.includes('libfuse'))
    return { code, message: 'libfuse 2 is not installed; install it: sudo apt-get install libfuse2' }
  if (message.includes("Cannot find module 'fuse-native'"))
    return {
      code,
      message: 'the optional package fuse-native is not installed; run npm install in the folder of kith',
    }
  return { code, message: `fuse-native does not run on this system: ${message.split('\n')[0] ?? ''}` }
}

function failed(why: Omit<FromBrowse & { kind: 'failed' }, 'kind'>): void {
  process.send?.({ kind: 'failed', ...why }, undefined, undefined, () => process.exit(1))
}

/** Nobody tells this process that it was unmounted. */
function watch(mountpoint: string): void {
  clock.after(lookMs, () => {
    if (!isMountedAt(mountpoint, browseType)) process.exit(0)
    watch(mountpoint)
  })
}

/** At once, whatever is open; what is not off after this is tried again. */
function unmount(mountpoint: string): void {
  void detach(mountpoint)
    .catch(() => undefined)
    .then(() => {
      if (!isMountedAt(mountpoint, browseType)) process.exit(0)
      clock.after(lookMs, () => unmount(mountpoint))
    })
}

assert(process.send, 'this file runs as a process of the daemon')
let place: string | undefined
process.on('message', (message: ToBrowse) => {
  switch (message.kind) {
    case 'mount':
      place = message.mountpoint
      return mount(place)
    case 'answer': {
      const { id, errno, body } = message
      waiting.get(id)?.({ errno, body: Buffer.from(body.buffer, body.byteOffset, body.byteLength) })
      waiting.delete(id)
      return
    }
    case 'end':
      return place === undefined ? process.exit(0) : unmount(place)
  }
})
