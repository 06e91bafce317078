/** One run of `overlap.ts`, in its network namespace: overlap-run.js MEGABYTES apart|shared. Prints the bytes that were sent. */
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomBytes, seeded } from '../lib/base/random.js'
import { endAll, killAll, kith, start } from '../scripts/try/processes.js'

const [megabytes = '', mode] = process.argv.slice(2)
const smallest = 2 ** 10
const largest = 2 ** 23

/** Files of 1 KiB to 8 MiB, each size class as likely as the next, of content that cannot be made smaller. */
function fill(dir: string, bytes: number): void {
  const random = seeded(bytes)
  const doublings = Math.log2(largest / smallest)
  let left = bytes
  for (let i = 0; left > 0; i++) {
    const size = Math.min(left, Math.round(smallest * 2 ** ((random() / 2 ** 32) * doublings)))
    const folder = join(dir, `folder ${Math.floor(i / 20)}`)
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, `file ${i}`), randomBytes(size))
    left -= size
  }
}

function copyInto(from: string, to: string): void {
  for (const folder of readdirSync(from)) {
    mkdirSync(join(to, folder), { recursive: true })
    for (const file of readdirSync(join(from, folder)))
      copyFileSync(join(from, folder, file), join(to, folder, file))
  }
}

function sentSoFar(): number {
  const line = readFileSync('/proc/self/net/dev', 'utf8')
    .split('\n')
    .find((row) => row.trim().startsWith('lo:'))
  return Number(line?.trim().split(/\s+/)[9])
}

async function run(state: string): Promise<number> {
  const half = (Number(megabytes) * 1e6) / 2
  const common = join(state, 'common')
  fill(common, half)
  const { ready } = await start<{ address: string }>(['dht'])
  const homes = ['one', 'other'].map((name) => ({
    name,
    home: join(state, name),
    dir: join(state, `of ${name}`),
  }))
  for (const { name, home, dir } of homes) {
    copyInto(common, join(dir, 'in common'))
    fill(join(dir, 'own'), half)
    mkdirSync(home, { mode: 0o700 })
    await start(['daemon', '--home', home, '--bootstrap', ready.address])
    await kith(['init', '--name', name, '--phrase-out', `${home}.phrase`], home)
  }
  const [one, other] = homes
  if (!one || !other) throw new Error('there are two homes')
  await kith(['circle', 'create', 'friends'], one.home)
  const { code } = await kith<{ code: string }>(['invite'], one.home)
  await kith(['join', code], other.home)
  // What a home has of its own counts once it is sealed there: each takes its snapshot while the other is away.
  const share = mode === 'shared' ? ['--share', 'friends'] : []
  for (const { home } of homes) await kith(['stop'], home)
  for (const { home, dir } of homes) {
    await start(['daemon', '--home', home, '--bootstrap', ready.address])
    await kith(['mount', dir, '--engine', 'watch', ...share], home)
    await kith(['snapshot', dir], home)
    await kith(['stop'], home)
  }
  const before = sentSoFar()
  for (const { home } of homes) await start(['daemon', '--home', home, '--bootstrap', ready.address])
  for (const { home, dir } of homes) await kith(['sync', dir], home)
  return sentSoFar() - before
}

const state = mkdtempSync(join(tmpdir(), 'kith-overlap-'))
process.once('exit', killAll)
try {
  console.log(await run(state))
} finally {
  await endAll()
  rmSync(state, { recursive: true, force: true })
}
