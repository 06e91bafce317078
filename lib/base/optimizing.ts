/** When V8 optimizes functions. */
import { setFlagsFromString } from 'node:v8'

/** Bytes of bytecode that a function runs between two looks at whether to optimize it; V8's own choice is 67,584. */
const budgetBytes = 500_000

/**
 * Functions are optimized after seven times as much work as V8 would wait for by itself, in this thread and in those that
 * start later. A backup of some seconds spent a fifth of its processor time on optimizing, in each thread anew, and most of that
 * code hardly ran any more (docs/benchmarks.md); what runs for long is optimized all the same, a fraction of a second later.
 */
export function optimizeLater(): void {
  setFlagsFromString(`--interrupt-budget=${budgetBytes}`)
}
