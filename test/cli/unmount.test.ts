/** Files that are open when a directory is unmounted, and those that were open before it was mounted. */
import t, { type Test } from 'tap'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Result, SnapshotRow } from '../../lib/daemon/api.js'
import { TestHome, until } from '../helpers/cli.js'
import { freeze } from '../helpers/freeze.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'

/** A program that holds files of the directory, and its lines of output. */
function program(
  t: Test,
  cwd: string,
  script: string,
): { pid: number; said: () => string; say(line: string): void; end(): void } {
  const child = spawn('sh', ['-c', script], { cwd, stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let out = ''
  child.stdout.on('data', (data: Buffer) => (out += data.toString()))
  return {
    pid: child.pid ?? 0,
    said: () => out,
    say: (line) => child.stdin.write(`${line}\n`),
    end: () => child.stdin.end(),
  }
}

t.test('unmounted with files open, by a frozen program, in the middle of a snapshot', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  writeFileSync(join(dir, 'big'), randomBytes(60_000_000))
  const holder = program(t, '/', `exec 5> '${dir}/held'; echo ready; read line; echo late >&5`)
  await until(() => holder.said() === 'ready\n')
  const stander = program(t, dir, 'echo ready; read line')
  await until(() => stander.said() === 'ready\n')
  await freeze(holder.pid)
  const snapshot = home.kith(['snapshot'])
  const { code, stdout } = await home.kith(['unmount', dir])
  t.equal(code, 0)
  t.match(stdout, new RegExp(`held \\(sh, process ${holder.pid}\\)`))
  t.match(stdout, new RegExp(`\\. \\(sh, process ${stander.pid}\\)`))
  t.match(String((await snapshot).code), /^(0|3|15)$/, 'it was taken before, or ended')
  t.equal(home.mountCount(), 0)

  t.comment('mounted again while it is still held')
  const mounted = await home.ask<Result<'mount'>>(['mount', dir])
  t.ok(mounted.outsiders.length > 0, 'the first kith-fuse')
  t.match((await home.volume())?.problems.join(), /kith-fuse \(process \d+\) has .* open since before/)
  t.equal(home.fusePids().length, 2)
  process.kill(holder.pid, 'SIGCONT')
  holder.end()
  stander.end()
  await until(() => home.fusePids().length === 1)
  t.equal(readFileSync(join(dir, 'held'), 'utf8'), 'late\n', 'what it wrote then is there')
  const taken = await home.ask<SnapshotRow>(['snapshot'])
  t.equal(readFileSync(join(dir, '.snapshots', taken.name, 'held'), 'utf8'), 'late\n')
  await until(async () => (await home.volume())?.problems.length === 0)
})

t.test('a shell that stood in the directory before it was mounted is not missed', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  const shell = program(t, dir, 'echo ready; read line; echo past > by-shell; echo done; read line')
  await until(() => shell.said() === 'ready\n')
  // The command itself is run in the directory, too.
  const under = ['sh', '-c', 'cd "$0" && exec "$@"', dir]
  const { outsiders } = await home.ask<Result<'mount'>>(['mount', '.'], { under })
  t.same(outsiders, [{ pid: shell.pid, name: 'sh', path: '.' }])
  await home.ask(['snapshot'])
  t.match((await home.volume())?.problems, [/^sh \(process \d+\) has \. open since before/])
  shell.say('go')
  await until(() => shell.said() === 'ready\ndone\n')
  const { name } = await home.ask<SnapshotRow>(['snapshot'])
  t.equal(readFileSync(join(dir, '.snapshots', name, 'by-shell'), 'utf8'), 'past\n')
})
