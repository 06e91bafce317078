/** Makes a tree of everything that is hard to back up. The same options give the same bytes. */
import { createCipheriv } from 'node:crypto'
import { constants, ftruncateSync, mkdirSync, writeSync } from 'node:fs'
import * as posix from '../../lib/base/posix.js'
import { seeded } from '../../lib/base/random.js'

export interface MadeTreeOptions {
  seed?: number
  bigBytes?: number
  sparseBytes?: number
  wideEntries?: number
  depth?: number
  /** POSIX ACLs, which not every file system takes */
  acls?: boolean
}

const { O_CREAT, O_EXCL, O_WRONLY, S_IFIFO } = constants
const b = (text: string): Buffer => Buffer.from(text)

/** Bytes that do not compress, from a seed: a ChaCha20 key stream. */
export function seededBytes(seed: number, length: number): Buffer {
  const key = Buffer.alloc(32)
  key.writeUInt32LE(seed >>> 0)
  return createCipheriv('chacha20', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

/** A new file of `content` below the directory. */
export function writeFileAt(dirFd: number, name: Buffer, content: Buffer | string = '', mode = 0o644): void {
  const fd = posix.openAt(dirFd, name, O_CREAT | O_EXCL | O_WRONLY, mode)
  try {
    const bytes = Buffer.from(content)
    for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at)
  } finally {
    posix.close(fd)
  }
}

function within(dirFd: number, name: string | Buffer, fill: (fd: number) => void): void {
  posix.mkdirAt(dirFd, Buffer.from(name), 0o755)
  const fd = posix.openDirectoryAt(dirFd, Buffer.from(name))
  try {
    fill(fd)
  } finally {
    posix.close(fd)
  }
}

function bigFile(dirFd: number, bytes: number, seed: number): void {
  const fd = posix.openAt(dirFd, b('big'), O_CREAT | O_EXCL | O_WRONLY, 0o644)
  const pieceBytes = 4 * 1024 * 1024
  for (let at = 0, i = 0; at < bytes; at += pieceBytes, i++)
    writeSync(fd, seededBytes(seed + i, Math.min(pieceBytes, bytes - at)), 0, undefined, at)
  posix.close(fd)
}

/** Data at the start, in the middle and not at the end. */
function sparseFile(dirFd: number, bytes: number, seed: number): void {
  const fd = posix.openAt(dirFd, b('sparse'), O_CREAT | O_EXCL | O_WRONLY, 0o644)
  writeSync(fd, seededBytes(seed, 10_000), 0, undefined, 0)
  writeSync(fd, seededBytes(seed + 1, 10_000), 0, undefined, Math.floor(bytes / 2))
  ftruncateSync(fd, bytes)
  posix.close(fd)
}

const strangeNames = [
  b('line\nbreak'),
  b('tab\tand\rreturn'),
  b(' space at both ends '),
  b('-rf'),
  b('*?[a]'),
  b('back\\slash'),
  b('🌳 und Bäume'),
  Buffer.from([0x6e, 0x66, 0x63, 0xc3, 0xa9]),
  Buffer.from([0x6e, 0x66, 0x64, 0x65, 0xcc, 0x81]),
  Buffer.from([0xff, 0xfe, 0x80, 0x41]),
  Buffer.from([0xc3]),
  b('.hidden'),
  b('...'),
  b('x'.repeat(255)),
]

function names(dirFd: number): void {
  within(dirFd, 'names', (fd) => {
    for (const name of strangeNames) writeFileAt(fd, name, name)
    within(fd, Buffer.from([0x64, 0xff, 0x0a]), (inner) => writeFileAt(inner, Buffer.from([0xfe]), 'inside'))
  })
}

function links(dirFd: number): void {
  within(dirFd, 'links', (fd) => {
    writeFileAt(fd, b('one'), 'one file, three names')
    posix.linkAt(fd, b('one'), fd, b('two'))
    within(fd, 'elsewhere', (inner) => posix.linkAt(fd, b('one'), inner, b('three')))
    posix.symlinkAt(b('one'), fd, b('relative'))
    posix.symlinkAt(b('nowhere/at all'), fd, b('dangling'))
    posix.symlinkAt(b('/etc/hostname'), fd, b('absolute'))
    posix.symlinkAt(Buffer.from([0xff, 0x2f, 0x0a]), fd, b('bytes'))
    posix.symlinkAt(b('x'.repeat(4000)), fd, b('long'))
    posix.linkAt(fd, b('dangling'), fd, b('dangling again'))
    posix.mknodAt(fd, b('fifo'), S_IFIFO | 0o640)
  })
}

function acl(entries: [tag: number, permissions: number, id?: number][]): Buffer {
  const bytes = Buffer.alloc(4 + 8 * entries.length)
  bytes.writeUInt32LE(2)
  entries.forEach(([tag, permissions, id = 0xffffffff], i) => {
    bytes.writeUInt16LE(tag, 4 + 8 * i)
    bytes.writeUInt16LE(permissions, 6 + 8 * i)
    bytes.writeUInt32LE(id, 8 + 8 * i)
  })
  return bytes
}

function metadata(dirFd: number, acls: boolean): void {
  within(dirFd, 'metadata', (fd) => {
    for (const mode of [0o0000, 0o4755, 0o2755, 0o0444, 0o0777, 0o1640]) {
      const name = b(`mode ${mode.toString(8)}`)
      writeFileAt(fd, name, 'x')
      posix.chmodAt(fd, name, mode)
    }
    writeFileAt(fd, b('attributes'), 'x')
    posix.setXattrAt(fd, b('attributes'), b('user.text'), b('value'))
    posix.setXattrAt(fd, b('attributes'), b('user.bytes'), Buffer.from([0, 255, 10]))
    posix.setXattrAt(fd, b('attributes'), b('user.empty'), Buffer.alloc(0))
    posix.setXattrFd(fd, b('user.of a directory'), b('value'))
    const times = {
      old: -1_500_000_001n,
      nanoseconds: 1_700_000_000_123_456_789n,
      future: 4_000_000_000_000_000_001n,
    }
    for (const [name, time] of Object.entries(times)) {
      writeFileAt(fd, b(`time ${name}`), 'x')
      posix.utimesAt(fd, b(`time ${name}`), undefined, time)
    }
    posix.symlinkAt(b('time old'), fd, b('time of a symlink'))
    posix.utimesAt(fd, b('time of a symlink'), undefined, 1_234_567_890_987_654_321n)
    within(fd, 'closed', (inner) => writeFileAt(inner, b('inside'), 'x'))
    if (process.geteuid?.() === 0) owners(fd)
    if (acls) withAcls(fd)
    posix.utimesAt(fd, b('closed'), undefined, 1_000_000_000_000_000_007n)
    posix.chmodAt(fd, b('closed'), 0)
  })
}

function owners(fd: number): void {
  writeFileAt(fd, b('owned'), 'x')
  posix.chownAt(fd, b('owned'), 12_345, 54_321)
  posix.chmodAt(fd, b('owned'), 0o6755)
  posix.symlinkAt(b('owned'), fd, b('owned symlink'))
  posix.chownAt(fd, b('owned symlink'), 12_345, 54_321)
  posix.chownAt(fd, b('closed'), 12_345, 54_321)
}

function withAcls(fd: number): void {
  // user::rw- user:1000:r-- group::r-- mask::rw- other::---
  const access = acl([
    [1, 6],
    [2, 4, 1000],
    [4, 4],
    [16, 6],
    [32, 0],
  ])
  writeFileAt(fd, b('acl'), 'x')
  posix.setXattrAt(fd, b('acl'), b('system.posix_acl_access'), access)
  within(fd, 'default acl', (inner) => {
    writeFileAt(inner, b('made before the acl'), 'x')
    posix.setXattrFd(inner, b('system.posix_acl_default'), access)
    writeFileAt(inner, b('made after the acl'), 'x')
  })
}

function deep(dirFd: number, depth: number): void {
  const fds = [dirFd]
  for (let level = 0; level < depth; level++) {
    const above = fds.at(-1) ?? dirFd
    const name = b(`level ${level}`)
    posix.mkdirAt(above, name, 0o755)
    const fd = posix.openDirectoryAt(above, name)
    writeFileAt(fd, b('file'), `at level ${level}`)
    if (fds.length > 1) posix.close(fds.pop() ?? -1)
    fds.push(fd)
  }
  if (fds.length > 1) posix.close(fds.pop() ?? -1)
}

/** Fills the directory at `path`, made when missing. */
export function makeTree(path: string, options: MadeTreeOptions = {}): void {
  const { seed = 1, bigBytes = 300 * 1024 * 1024, sparseBytes = 64 * 1024 * 1024 } = options
  const { wideEntries = 20_000, depth = 60, acls = false } = options
  const random = seeded(seed)
  mkdirSync(path, { recursive: true })
  const root = posix.openRoot(path)
  try {
    within(root, 'empty', (fd) => {
      within(fd, 'directory', () => undefined)
      for (let i = 0; i < 5; i++) writeFileAt(fd, b(`file ${i}`))
    })
    within(root, 'sizes', (fd) => {
      for (const bytes of [1, 511, 512, 513, 4096, 65_537, 1_048_577, 3_000_000])
        writeFileAt(fd, b(`${bytes} bytes`), seededBytes(random(), bytes))
      writeFileAt(fd, b('zeros'), Buffer.alloc(2_000_000))
      writeFileAt(fd, b('text'), 'the same words again and again\n'.repeat(10_000))
    })
    bigFile(root, bigBytes, random())
    sparseFile(root, sparseBytes, random())
    names(root)
    links(root)
    metadata(root, acls)
    within(root, 'wide', (fd) => {
      for (let i = 0; i < wideEntries; i++) writeFileAt(fd, b(`entry ${i}`), i % 4 === 0 ? '' : `${random()}`)
    })
    within(root, 'deep', (fd) => deep(fd, depth))
  } finally {
    posix.close(root)
  }
}
