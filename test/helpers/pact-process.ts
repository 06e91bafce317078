/** Runs pact-node.ts as a process of its own, gone when the test ends. */
import { spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'

const program = fileURLToPath(new URL('./pact-node.js', import.meta.url))

export interface Running {
  child: ChildProcess
  last: { number?: number; standing?: string }
  exit: Promise<NodeJS.Signals | null>
}

export function run(t: Test, args: string[]): Running {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exit = new Promise<NodeJS.Signals | null>((resolve) =>
    child.once('exit', (_, signal) => resolve(signal)),
  )
  const running: Running = { child, last: {}, exit }
  let text = ''
  child.stdout?.on('data', (data: Buffer) => {
    const lines = (text + data.toString()).split('\n')
    text = lines.pop() ?? ''
    for (const line of lines) running.last = JSON.parse(line) as Running['last']
  })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exit
  })
  return running
}
