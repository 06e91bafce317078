/** Stopping a process by SIGSTOP. The signal takes effect thread by thread, some time after kill() has returned. */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/** Stops a process of the test's own, and waits until none of its threads runs. The test continues it by SIGCONT. */
export async function freeze(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP')
  const end = performance.now() + 60_000
  while (!isStopped(pid)) {
    if (performance.now() > end) throw new Error(`process ${pid} did not stop within a minute`)
    await delay(5)
  }
}

function isStopped(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((task) => {
    const stat = readFileSync(`/proc/${pid}/task/${task}/stat`, 'latin1')
    // The state follows the name, which stands in parentheses and may hold any byte.
    return stat[stat.lastIndexOf(')') + 2] === 'T'
  })
}
