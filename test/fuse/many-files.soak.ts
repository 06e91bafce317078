// A million files looked at: memory for each, and a bounded number of descriptors.
import t from 'tap'
import { readFileSync, readdirSync } from 'node:fs'
import { mountForTest, ran } from '../helpers/fuse-mount.js'

const directories = 1000
const filesInEach = 1000
const files = directories * filesInEach

t.setTimeout(900_000)

t.test('a million files', async (t) => {
  const mount = await mountForTest(t)
  t.setTimeout(900_000)
  const used = (): number => {
    const status = readFileSync(`/proc/${mount.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024
  }
  const make =
    'import os,sys\n' +
    `for d in range(${directories}):\n os.mkdir(f"directory {d}")\n` +
    ` for f in range(${filesInEach}): os.mknod(f"directory {d}/file number {f}.txt")\n`
  await ran('python3', ['-c', make], { cwd: mount.under })
  const before = used()
  const found = await ran('find', [mount.dir, '-type', 'f', '-size', '0', '-printf', 'x'])
  t.equal(found.length, files)
  const each = (used() - before) / files
  t.comment(`${each.toFixed(0)} bytes a file`)
  t.ok(each < 400, `${each} bytes a file`)
  t.ok(readdirSync(`/proc/${mount.pid}/fd`).length < 1200)
  t.equal(mount.log, '')
})
