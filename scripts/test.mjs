// Runs the compiled tests, each file in a process of its own, and ends with the line `N passed, N failed`.
//   node scripts/test.mjs [--soak] [--jobs N] [PART ...]     PART: part of a file's path, e.g. store/ or e2e/crash
// Files ending in .alone.test.js run one at a time, after the others: they measure, or need the machine.
// Each file has a bound of its own (10 minutes; 20 in the soak); one that passes it is killed and counted as failed.
import { spawn } from 'node:child_process'
import { readdirSync, rmSync, existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, relative } from 'node:path'
import { Parser } from 'tap-parser'

const root = new URL('..', import.meta.url).pathname
const args = process.argv.slice(2)
const soak = args.includes('--soak')
const jobsAt = args.indexOf('--jobs')
// One more than there are processors: who waits for a disk or a timer leaves his to others.
const jobs = jobsAt >= 0 ? Number(args[jobsAt + 1]) : Math.min(availableParallelism(), 4) + 1
const parts = args.filter((arg, i) => !arg.startsWith('--') && i !== jobsAt + 1 - (jobsAt < 0 ? 1e9 : 0))
const bound = (soak ? 20 : 10) * 60_000
const ending = soak ? '.soak.js' : '.test.js'

function list(dir) {
  return readdirSync(dir, { withFileTypes: true })
    .flatMap((entry) => (entry.isDirectory() ? list(join(dir, entry.name)) : [join(dir, entry.name)]))
    .filter((file) => file.endsWith(ending))
}

/** A compiled test whose source is gone would still run: it is removed instead. */
function current(file) {
  const source = join(root, relative(join(root, 'dist'), file).replace(/\.js$/, '.ts'))
  if (existsSync(source)) return true
  rmSync(file)
  return false
}

const files = list(join(root, 'dist/test'))
  .filter(current)
  .filter((file) => parts.length === 0 || parts.some((part) => relative(root, file).includes(part)))
  .sort()

let passed = 0
let failed = 0

function describe(fullname, result) {
  const at = result.diag?.at ? ` (${result.diag.at.fileName}:${result.diag.at.lineNumber})` : ''
  const diag = result.diag ? JSON.stringify(result.diag, null, 1).slice(0, 3000) : ''
  return `not ok  ${fullname} > ${result.name}${at}`.replace(/\s+/g, ' ') + `\n${diag}`
}

/** What is wrong with a file beside the failures that it told of. */
function faultOf({ late, ok, bad, end }) {
  if (late) return `took longer than ${bound / 60_000} minutes`
  if (bad > 0) return undefined
  if (end !== 0) return `ended with ${end}`
  return ok === 0 ? 'no test ran' : undefined
}

function run(file) {
  const name = relative(join(root, 'dist/test'), file)
  const started = Date.now()
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--enable-source-maps', file], {
      cwd: root,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TAP_BAIL: '0', TAP_TIMEOUT: '0' },
    })
    let ok = 0
    let bad = 0
    let errors = ''
    const failures = []
    const parser = new Parser({})
    const watch = (p, path) => {
      p.on('child', (sub) => watch(sub, `${path} > ${sub.name}`))
      p.on('assert', (result) => {
        if (result.ok) ok++
        else if (!/^(Subtest|test) /.test(result.name)) {
          bad++
          failures.push(describe(path, result))
        }
      })
    }
    watch(parser, name)
    child.stdout.pipe(parser)
    child.stderr.on('data', (data) => (errors = (errors + data).slice(-8000)))
    let late = false
    const timer = setTimeout(() => {
      late = true
      try {
        process.kill(-child.pid, 'SIGTERM')
      } catch {
        child.kill('SIGTERM')
      }
      setTimeout(() => child.kill('SIGKILL'), 5000).unref()
    }, bound)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      const whole = faultOf({ late, ok, bad, end: signal ?? code })
      if (whole !== undefined) {
        bad ||= 1
        failures.push(`not ok  ${name}: ${whole}`)
      }
      passed += ok
      failed += bad
      const seconds = ((Date.now() - started) / 1000).toFixed(0)
      console.log(`${bad ? 'FAIL' : 'ok  '} ${name} (${ok} passed, ${bad} failed, ${seconds} s)`)
      for (const failure of failures) console.log(failure)
      if (bad && errors) console.log(errors)
      resolve()
    })
  })
}

async function runAll(queue, width) {
  const workers = Array.from({ length: width }, async () => {
    for (let file = queue.shift(); file; file = queue.shift()) await run(file)
  })
  await Promise.all(workers)
}

const alone = files.filter((file) => file.includes('.alone.'))
await runAll(
  files.filter((file) => !alone.includes(file)),
  soak ? 1 : jobs,
)
await runAll(alone, 1)
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed === 0 && passed > 0 ? 0 : 1)
