/**
 * `npm run bench -- history`: what a history costs. Twenty versions of a source tree, by seeded edits, each backed up by kith,
 * restic and borg: the bytes that each stores in the end. Then a huge file of which one byte changes: what the daemon reads and stores
 * for that.
 */
import { createCipheriv } from 'node:crypto'
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { seeded } from '../lib/base/random.js'
import { ControlClient } from '../lib/daemon/control-client.js'
import { contenders, type Backup } from './backups.js'
import { endKith, kith, run } from './commands.js'
import { figures, heading, row } from './measure.js'
import { besideMount, listFiles } from './tree.js'

export interface HistoryScale {
  versions: number
  /** of the huge file */
  gigabytes: number
}

type Say = (line: string) => void

/** Headers and Python: what people write by hand. */
const sources = ['/usr/include', '/usr/lib/python3.11']

export async function benchHistory(scale: HistoryScale, say: Say): Promise<void> {
  await versions(scale.versions, say)
  await hugeFile(scale.gigabytes, say)
  say('')
}

async function versions(count: number, say: Say): Promise<void> {
  const place = mkdtempSync(join(tmpdir(), 'kith-bench-'))
  try {
    const tree = join(place, 'tree')
    mkdirSync(tree)
    for (const source of sources) await run('cp', ['-a', '--', source, tree])
    await besideMount(tree, say, (plain) => versionsOf(count, { place, tree, plain }, say))
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

async function versionsOf(
  count: number,
  { place, tree, plain }: { place: string; tree: string; plain: string },
  say: Say,
): Promise<void> {
  const backups = new Map<string, Backup>()
  try {
    for (const [name, make] of contenders(say)) {
      mkdirSync(join(place, name))
      backups.set(name, await make(join(place, name), tree, plain))
    }
    const names = [...backups.keys()]
    const seconds = new Map<string, number[]>(names.map((name) => [name, []]))
    const random = seeded(20)
    for (const backup of backups.values()) await backup.first()
    for (let version = 1; version < count; version++) {
      edit(tree, random)
      for (const [name, backup] of backups) seconds.get(name)?.push(await backup.again())
    }
    say(`${count} versions of a source tree of ${listFiles(tree).length} files: speed against ${names[0]}`)
    say(heading(names))
    say(row('each version but the first', names, figures(seconds)))
    const sizes: string[] = []
    for (const backup of backups.values())
      sizes.push(`${((await backup.storedBytes()) / 1e6).toFixed(1)} MB`.padStart(12))
    say('stored'.padEnd(26) + sizes.join(''))
  } finally {
    for (const backup of backups.values()) await backup.stop()
  }
}

/** As work on it does: lines of one file in fifty change, a few files come, go and move, once in a while a whole directory. */
function edit(tree: string, random: () => number): void {
  const files = listFiles(tree)
  const any = (): string => files[random() % files.length] ?? ''
  for (let i = 0; i < files.length / 50; i++) editLines(any(), random)
  for (let i = 0; i < files.length / 400; i++) {
    const source = any()
    copyFileSync(source, `${source}.${random() % 1000}`)
  }
  for (let i = 0; i < files.length / 400; i++) rmSync(any(), { force: true })
  const dir = dirname(any())
  if (random() % 4 === 0 && dir !== tree) renameSync(dir, `${dir}.moved${random() % 1000}`)
}

function editLines(file: string, random: () => number): void {
  const lines = readIfThere(file).toString('latin1').split('\n')
  for (let edits = 1 + (random() % 5); edits > 0; edits--) {
    const at = random() % lines.length
    const what = random() % 3
    if (what === 0) lines.splice(at, 1 + (random() % 10))
    else if (what === 1)
      lines.splice(at, 0, ...Array.from({ length: 1 + (random() % 10) }, () => `int value_${random()} = 0;`))
    else lines[at] = `${lines[at] ?? ''} /* ${random()} */`
  }
  writeFileSync(file, Buffer.from(lines.join('\n'), 'latin1'))
}

/** A file that was taken away is made anew. */
function readIfThere(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch {
    return Buffer.alloc(0)
  }
}

async function hugeFile(gigabytes: number, say: Say): Promise<void> {
  const place = mkdtempSync(join(tmpdir(), 'kith-bench-'))
  const [home, tree] = [join(place, 'kith'), join(place, 'tree')]
  try {
    mkdirSync(tree)
    const file = join(tree, 'huge')
    const bytes = gigabytes * 1e9
    writeRandom(file, bytes)
    await kith(home, 'init', '--phrase-out', join(place, 'kith.phrase'))
    try {
      await kith(home, 'mount', tree)
      await kith(home, 'snapshot', tree)
      const client = await ControlClient.connect(home)
      if (!client) throw new Error('the daemon has ended')
      const cost = async () => {
        const { pid, space } = await client.call('status', {})
        const read = /^rchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))
        return { stored: space?.bytesHere ?? NaN, read: Number(read?.[1]) }
      }
      const before = await cost()
      const fd = openSync(file, 'r+')
      writeSync(fd, Buffer.from([1]), 0, 1, Math.floor(bytes / 2))
      closeSync(fd)
      const begun = performance.now()
      await client.call('snapshot', { dir: tree })
      const ms = performance.now() - begun
      const after = await cost()
      client.close()
      const kilobytes = (n: number) => `${(n / 1e3).toFixed(1)} kB`
      say(
        `one byte of a file of ${gigabytes} GB: read ${kilobytes(after.read - before.read)}, ` +
          `stored ${kilobytes(after.stored - before.stored)}, ${ms.toFixed(0)} ms`,
      )
    } finally {
      await endKith(home, tree)
    }
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

/** Bytes that do not compress and do not repeat: a key stream. */
function writeRandom(file: string, bytes: number): void {
  const stream = createCipheriv('chacha20', Buffer.alloc(32, 1), Buffer.alloc(16))
  const zeros = Buffer.alloc(8 * 1024 * 1024)
  const fd = openSync(file, 'w')
  try {
    for (let left = bytes; left > 0;)
      left -= writeSync(fd, stream.update(zeros.subarray(0, Math.min(left, zeros.length))))
  } finally {
    closeSync(fd)
  }
}
