/**
 * `npm run bench -- changes`: what a snapshot costs after a few changes, by the size of the tree around them. The whole
 * `kith snapshot` process beside `restic backup` of the same tree beside the mount, and the same request over an open connection, which is
 * the daemon's own share. Then what must not depend on the size: a renamed directory, one name in a huge directory, the
 * first listing in `.snapshots`. At last how soon a partner has a file that was closed, while others write.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ControlClient } from '../lib/daemon/control-client.js'
import { restic } from './backups.js'
import { endKith, isInstalled, kith } from './commands.js'
import { median } from './measure.js'
import { besideMount } from './tree.js'

export interface ChangesScale {
  /** files in the tree, one run for each */
  sizes: number[]
  /** names in the huge directory, and in the one that is renamed */
  wide: number
  /** changed files at a time, and how often */
  rounds: number
  /** files closed, one after the other, for the partner to have */
  closed: number
}

const filesPerDirectory = 100
const changedAtOnce = 10
/** How long files are closed for a partner to have, with writers beside them, at most. */
const closingMs = 180_000

type Say = (line: string) => void

export async function benchChanges(scale: ChangesScale, say: Say): Promise<void> {
  const withRestic = isInstalled('restic')
  if (!withRestic) say('restic is not installed: left out')
  say('10 files changed: whole process, and in the daemon')
  const daemonMs: number[] = []
  for (const files of scale.sizes) daemonMs.push(await tenChanges(files, scale.rounds, withRestic, say))
  const growth = (daemonMs.at(-1) ?? NaN) / (daemonMs[0] ?? NaN)
  say(`growth from ${scale.sizes[0]} to ${scale.sizes.at(-1)} files, in the daemon: ${growth.toFixed(2)}x`)
  await wideDirectory(scale.wide, scale.rounds, say)
  await closedToPartner(scale.closed, say)
  say('')
}

/** A protected tree in a place of its own, with a connection to its daemon; removed whatever happens. */
async function protectedTree<T>(
  say: Say,
  make: (tree: string) => void,
  work: (at: {
    place: string
    home: string
    tree: string
    plain: string
    client: ControlClient
  }) => Promise<T>,
): Promise<T> {
  const place = mkdtempSync(join(tmpdir(), 'kith-bench-'))
  const [home, tree] = [join(place, 'kith'), join(place, 'tree')]
  try {
    mkdirSync(tree)
    make(tree)
    return await besideMount(tree, say, async (plain) => {
      await kith(home, 'init', '--phrase-out', join(place, 'kith.phrase'))
      try {
        await kith(home, 'mount', tree)
        const client = await ControlClient.connect(home)
        if (!client) throw new Error('the daemon has ended')
        await kith(home, 'snapshot', tree)
        const result = await work({ place, home, tree, plain, client })
        client.close()
        return result
      } finally {
        await endKith(home, tree)
      }
    })
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

function makeFiles(tree: string, files: number): void {
  for (let at = 0; at < files; at += filesPerDirectory) {
    const dir = join(tree, `d${Math.floor(at / 10_000)}`, `d${at}`)
    mkdirSync(dir, { recursive: true })
    for (let i = at; i < Math.min(files, at + filesPerDirectory); i++) {
      writeFileSync(join(dir, `file ${i}`), `the content of file number ${i}\n`.repeat(20))
    }
  }
}

function changeTen(tree: string, files: number, round: number): void {
  for (let i = 0; i < changedAtOnce; i++) {
    const file = Math.floor(((i + 0.5) * files) / changedAtOnce)
    const at = file - (file % filesPerDirectory)
    appendFileSync(join(tree, `d${Math.floor(at / 10_000)}`, `d${at}`, `file ${file}`), `round ${round}\n`)
  }
}

async function tenChanges(files: number, rounds: number, withRestic: boolean, say: Say): Promise<number> {
  return protectedTree(
    say,
    (tree) => makeFiles(tree, files),
    async ({ place, home, tree, plain, client }) => {
      const peer = withRestic ? await restic(place, tree, plain) : undefined
      await peer?.first()
      const [processes, inDaemon, ratios]: number[][] = [[], [], []]
      for (let round = 0; round < rounds; round++) {
        changeTen(tree, files, 2 * round)
        const { seconds } = await kith(home, 'snapshot', tree)
        processes?.push(seconds)
        if (peer) ratios?.push((await peer.again()) / seconds)
        changeTen(tree, files, 2 * round + 1)
        const begun = performance.now()
        await client.call('snapshot', { dir: tree })
        inDaemon?.push(performance.now() - begun)
      }
      const ms = median(inDaemon ?? [])
      const against = peer ? `, ${median(ratios ?? []).toFixed(0)}x restic` : ''
      const whole = `${(median(processes ?? []) * 1000).toFixed(0)} ms${against}`
      say(`  ${String(files).padStart(8)} files: ${whole}; in the daemon ${ms.toFixed(1)} ms`)
      return ms
    },
  )
}

async function wideDirectory(names: number, rounds: number, say: Say): Promise<void> {
  const make = (tree: string) => {
    mkdirSync(join(tree, 'wide'))
    for (let i = 0; i < names; i++) writeFileSync(join(tree, 'wide', `name ${i}`), '')
  }
  await protectedTree(say, make, async ({ tree, client }) => {
    const snapshot = async () => {
      const begun = performance.now()
      await client.call('snapshot', { dir: tree })
      return performance.now() - begun
    }
    const [one, renamed, listed]: [number[], number[], number[]] = [[], [], []]
    for (let round = 0; round < rounds; round++) {
      writeFileSync(join(tree, 'wide', `new ${round}`), 'x')
      one.push(await snapshot())
      const begun = performance.now()
      readdirSync(join(tree, '.snapshots', 'latest'))
      listed.push(performance.now() - begun)
      renameSync(join(tree, 'wide'), join(tree, 'other'))
      renamed.push(await snapshot())
      renameSync(join(tree, 'other'), join(tree, 'wide'))
      await snapshot()
    }
    const ms = (values: number[]) => `${median(values).toFixed(1)} ms`
    say(`a directory of ${names} names: one came ${ms(one)}; it was renamed ${ms(renamed)}`)
    say(`.snapshots/latest listed right after: ${ms(listed)}`)
  })
}

/** Eight processes that write without pause, and a file of 1 MB that is closed: until the partner holds it. */
async function closedToPartner(files: number, say: Say): Promise<void> {
  const place = mkdtempSync(join(tmpdir(), 'kith-bench-'))
  const [owner, partner, tree] = ['owner', 'partner', 'tree'].map((name) => join(place, name)) as [
    string,
    string,
    string,
  ]
  const dht = spawn(process.execPath, [kithMain, 'dht', '--json'], { stdio: ['ignore', 'pipe', 'inherit'] })
  const running: ChildProcess[] = [dht]
  try {
    const address = await firstAddress(dht)
    for (const home of [owner, partner])
      await kith(home, '--bootstrap', address, 'init', '--phrase-out', `${home}.phrase`)
    await kith(owner, 'circle', 'create', 'bench')
    const { stdout } = await kith(owner, 'invite', '--json')
    await kith(partner, 'join', (JSON.parse(stdout) as { code: string }).code)
    mkdirSync(tree)
    await kith(owner, 'mount', tree)
    await kith(owner, 'snapshot', tree)
    await kith(owner, 'sync', tree, '--timeout', '120')
    for (let i = 0; i < 8; i++) running.push(spawn('sh', ['-c', writer, 'sh', join(tree, `busy ${i}`)]))
    const held = await ControlClient.connect(partner)
    if (!held) throw new Error('the partner has ended')
    const seconds: number[] = []
    const begun = performance.now()
    for (let i = 0; i < files && performance.now() - begun < closingMs; i++)
      seconds.push(await untilHeld(held, join(tree, `file ${i}`)))
    held.close()
    seconds.sort((a, b) => a - b)
    const p95 = seconds[Math.ceil(seconds.length * 0.95) - 1] ?? NaN
    say(
      `1 MB closed until a partner has it, 8 writers, ${seconds.length} files: median ${median(seconds).toFixed(2)} s, p95 ${p95.toFixed(2)} s`,
    )
  } finally {
    for (const child of running) child.kill('SIGKILL')
    await endKith(owner, tree).catch(() => undefined)
    await kith(partner, 'stop').catch(() => undefined)
    rmSync(place, { recursive: true, force: true })
  }
}

const kithMain = fileURLToPath(new URL('../lib/cli/main.js', import.meta.url))

/** Zeros, over and over: they are written and read like anything else, but what they add to the partner's bytes is next to nothing. */
const writer = 'while :; do dd if=/dev/zero of="$1" bs=64k count=64 conv=notrunc status=none; done'

async function untilHeld(partner: ControlClient, file: string): Promise<number> {
  const held = async () => (await partner.call('status', {})).vault.bytesHeld
  const bytes = randomBytes(1_000_000)
  const before = await held()
  const fd = openSync(file, 'w')
  appendFileSync(fd, bytes)
  closeSync(fd)
  const begun = performance.now()
  while ((await held()) < before + bytes.length) await delay(5)
  return (performance.now() - begun) / 1000
}

function firstAddress(dht: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    dht.stdout?.on('data', (data: Buffer) => {
      text += data.toString()
      if (text.includes('\n')) resolve((JSON.parse(text) as { address: string }).address)
    })
    dht.once('exit', () => reject(new Error('the bootstrap node ended')))
  })
}
