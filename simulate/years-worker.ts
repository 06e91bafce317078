/** Runs simulations of years for years-report.ts, one after another, on a processor of its own. */
import { parentPort } from 'node:worker_threads'
import { atOnceRules, type Scenario } from './years-report.js'
import { simulateYears } from './years.js'

parentPort?.on('message', ({ index, scenario }: { index: number; scenario: Scenario }) => {
  const { rule, ...options } = scenario
  parentPort?.postMessage({ index, result: simulateYears({ ...options, atOnce: atOnceRules[rule] }) })
})
