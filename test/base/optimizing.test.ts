import { execFileSync } from 'node:child_process'
import t from 'tap'

/** Whether V8 means to optimize a function of a few additions that is called so often. */
function isOptimized(calls: number, later: boolean): boolean {
  const source = `
    import { optimizeLater } from '${new URL('../../lib/base/optimizing.js', import.meta.url).href}'
    if (${later}) optimizeLater()
    function work(n) { let sum = 0; for (let i = 0; i < n; i++) sum = (sum * 31 + i) | 0; return sum }
    for (let i = 0; i < ${calls}; i++) work(3)`
  const args = ['--trace-opt', '--input-type=module', '-e', source]
  return execFileSync(process.execPath, args, { encoding: 'utf8' })
    .split('\n')
    .some((line) => line.startsWith('[marking') && line.includes('JSFunction work'))
}

t.test('a function is optimized after more work than V8 would wait for, but it is', async (t) => {
  t.ok(isOptimized(2000, false), 'by itself')
  t.notOk(isOptimized(2000, true), 'not yet')
  t.ok(isOptimized(50_000, true), 'later')
})
