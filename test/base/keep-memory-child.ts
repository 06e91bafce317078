/** Says how much of 32 MiB that nobody has any more stays resident, and how much of it when it is given back. MiB. */
import { readFileSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { giveBackMemory, keepMemory } from '../../lib/base/posix.js'

keepMemory()

function resident(): number {
  return Number(readFileSync('/proc/self/statm', 'latin1').split(' ')[1]) / 256
}

/** Nobody has them when it returns. */
function touch(): void {
  for (const buffer of Array.from({ length: 8 }, () => Buffer.allocUnsafeSlow(4 * 1024 * 1024)))
    buffer.fill(1)
}

const collect = (globalThis as unknown as { gc: () => void }).gc
collect()
const before = resident()
touch()
await turn()
collect()
const kept = resident() - before
giveBackMemory()
console.log(JSON.stringify({ kept, left: resident() - before }))
