import { constants } from 'node:fs'
import { open, readFile, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { directUnit, writeDirect } from '../../lib/base/direct.js'
import { seeded } from '../../lib/base/random.js'
import { seededBytes } from '../helpers/bytes.js'

/** undefined: the file system of this directory does not do it. */
async function opened(t: Test, path: string): Promise<FileHandle | undefined> {
  const { O_WRONLY, O_CREAT, O_DIRECT } = constants
  const handle = await open(path, O_WRONLY | O_CREAT | O_DIRECT, 0o600).catch(() => undefined)
  t.teardown(() => handle?.close())
  return handle
}

t.test('parts of any length, and at any place in memory, are written one after the other', async (t) => {
  const path = join(t.testdir(), 'file')
  const handle = await opened(t, path)
  if (!handle) return void t.comment('no O_DIRECT here')
  const bytes = seededBytes(seeded(1), 2 * 1024 * 1024 + 3 * directUnit)
  const cuts = [0, 1, 40, 40, 4097, 524_288, 1_048_576, 1_048_577, bytes.length]
  const parts = cuts.slice(1).map((end, i) => bytes.subarray(cuts[i], end))
  await writeDirect(handle.fd, parts, 0)
  t.ok((await readFile(path)).equals(bytes))
  await writeDirect(handle.fd, [bytes.subarray(0, directUnit)], bytes.length)
  await writeDirect(handle.fd, [], 0)
  t.ok((await readFile(path)).equals(Buffer.concat([bytes, bytes.subarray(0, directUnit)])))
})

t.test('what fails is told as node:fs tells it', async (t) => {
  const unit = [Buffer.alloc(directUnit)]
  await t.rejects(writeDirect(-1, unit, 0), { code: 'EBADF', syscall: 'pwrite' })
  await t.rejects(writeDirect(-1, [{} as Buffer], 0), TypeError)
  const handle = await opened(t, join(t.testdir(), 'file'))
  if (handle) await t.rejects(writeDirect(handle.fd, unit, 1), { code: 'EINVAL', errno: -22 })
})
