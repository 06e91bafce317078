import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

t.test('what is freed stays with the allocator until it is given back', (t) => {
  // In a process of its own, whose allocator no other test changes; what is free is freed by the end of a collection.
  const child = fileURLToPath(new URL('./keep-memory-child.js', import.meta.url))
  const flags = ['--expose-gc', '--single-threaded-gc']
  const out = execFileSync(process.execPath, [...flags, child], { encoding: 'utf8' })
  const { kept, left } = JSON.parse(out) as { kept: number; left: number }
  t.ok(kept > 28, `${kept.toFixed(1)} of 32 MiB are kept`)
  t.ok(left < 6, `${left.toFixed(1)} MiB are left`)
  t.end()
})
