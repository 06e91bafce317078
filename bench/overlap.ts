/**
 * What two partners send each other when half of the bytes of each home are the same, with and without sharing them in their circle
 * (`kith mount --share`): two daemons, spoken to by commands, in a network namespace of their own, in which nothing else sends, so that the
 * counter of its loopback device is all that they sent, acknowledgements and DHT included.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { interrupted } from './commands.js'

export interface OverlapScale {
  /** of each home */
  megabytes: number
}

const program = fileURLToPath(new URL('overlap-run.js', import.meta.url))

/** Bytes over the wire in both directions, after the backups of both homes. */
function bytesSent(megabytes: number, mode: 'apart' | 'shared'): Promise<number> {
  const script = 'ip link set lo up && exec "$@"'
  const command = [process.execPath, program, String(megabytes), mode]
  const child = spawn('unshare', ['--map-root-user', '--net', 'sh', '-c', script, 'sh', ...command], {
    signal: interrupted.signal,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [out, errors] = ['', '']
  child.stdout.on('data', (data: Buffer) => (out += data.toString()))
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve(Number(out))
      else reject(new Error(errors.trim().split('\n').at(-1) ?? `ended with ${code}`))
    })
  })
}

export async function benchOverlap({ megabytes }: OverlapScale, say: (line: string) => void): Promise<void> {
  say(
    `overlap: two homes of ${megabytes} MB that have half of their bytes in common, each the other's partner`,
  )
  try {
    const apart = await bytesSent(megabytes, 'apart')
    const shared = await bytesSent(megabytes, 'shared')
    const millions = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB sent`
    say(
      `  not shared ${millions(apart)}, shared ${millions(shared)}: ${(shared / apart).toFixed(3)} (target <= 0.52)`,
    )
  } catch (error) {
    say(`  left out: ${error instanceof Error ? error.message : String(error)}`)
  }
  say('')
}
