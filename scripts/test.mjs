// Runs the compiled tests and ends with the line `N passed, N failed`. Each file has a process of its own, but for those of pure
// modules that start no process and change nothing of their own: some of these share one (test-together.mjs).
//   node scripts/test.mjs [--soak] [--jobs N] [PART ...]     PART: part of a file's path, e.g. store/ or e2e/crash
// Files ending in .alone.test.js run one at a time, after the others: they measure, or need the machine.
// Each process has a bound (10 minutes; 20 in the soak); the file at which it passes that, or crashes, is counted as failed, and
// those that had still to come in that process are run by themselves.
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { Parser } from 'tap-parser'

const root = new URL('..', import.meta.url).pathname
const args = process.argv.slice(2)
const soak = args.includes('--soak')
const jobsAt = args.indexOf('--jobs')
// Two more than there are processors: who waits for a disk or a timer leaves his to others.
const jobs = jobsAt >= 0 ? Number(args[jobsAt + 1]) : Math.min(availableParallelism(), 4) + 2
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

/** What a file that shares a process must not have: processes, threads, the process itself, V8's flags, memory that is measured. */
const ownProcess =
  /child_process|worker_threads|node:v8|process\.(exit|kill|on|once|chdir|umask|set\w+id|memoryUsage|env\.\w+ =)|\/proc\//
const togetherAtMost = 8
/** Folders whose tests share processes: what they test is pure, and leaves no socket or timer that would keep a process. */
const pure = ['codes', 'format', 'planning'].map((folder) => join(root, 'dist/test', folder))
const looked = new Map()

/** Whether neither the file nor any helper that it imports has such. */
function sharesProcess(file) {
  if (!looked.has(file)) {
    looked.set(file, true)
    const text = readFileSync(file, 'utf8')
    const helpers = [...text.matchAll(/from '(\.[^']+)'/g)].map(([, path]) => resolve(dirname(file), path))
    const tests = helpers.filter((path) => path.startsWith(join(root, 'dist/test/')))
    looked.set(file, !ownProcess.test(text) && tests.every(sharesProcess))
  }
  return looked.get(file)
}

/** The files that run in one process each time, in order. */
function groupsOf(files) {
  const groups = []
  for (const file of files) {
    const last = groups.at(-1)
    const near = last && last.length < togetherAtMost && dirname(file) === dirname(last[0])
    if (near && !soak && pure.includes(dirname(file)) && [file, last[0]].every(sharesProcess)) last.push(file)
    else groups.push([file])
  }
  return groups
}

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

/** What a process told of one file. */
class Told {
  ok = 0
  bad = 0
  failures = []

  constructor(...files) {
    this.name = files.map((file) => relative(join(root, 'dist/test'), file)).join(' or ')
    this.file = files[0]
    this.started = Date.now()
  }

  take(path, result) {
    if (result.ok) this.ok++
    else if (!/^(Subtest|test) /.test(result.name)) {
      this.bad++
      this.failures.push(describe([this.name, ...path].join(' > '), result))
    }
  }

  /** Says how it went. */
  end(whole, errors) {
    if (whole !== undefined) {
      this.bad ||= 1
      this.failures.push(`not ok  ${this.name}: ${whole}`)
    }
    const { ok, bad, name, failures } = this
    passed += ok
    failed += bad
    const seconds = ((Date.now() - this.started) / 1000).toFixed(0)
    console.log(`${bad ? 'FAIL' : 'ok  '} ${name} (${ok} passed, ${bad} failed, ${seconds} s)`)
    for (const failure of failures) console.log(failure)
    if (bad && errors) console.log(errors)
  }
}

/** Kills a process that takes too long, with what it started. */
function killAfter(child, ms, then) {
  return setTimeout(() => {
    then()
    try {
      process.kill(-child.pid, 'SIGTERM')
    } catch {
      child.kill('SIGTERM')
    }
    setTimeout(() => child.kill('SIGKILL'), 5000).unref()
  }, ms)
}

/** Runs files in one process. Resolves to those of them that have yet to be run, each by itself. */
function run(files) {
  const alone = files.length === 1
  const args = alone ? files : [join(root, 'scripts/test-together.mjs'), ...files]
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--enable-source-maps', ...args], {
      cwd: root,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TAP_BAIL: '0', TAP_TIMEOUT: '0' },
    })
    const left = [...files]
    const before = failed
    let told = new Told(left.shift())
    let errors = ''
    const parser = new Parser({})
    const watch = (p, path) => {
      p.on('child', (sub) => watch(sub, [...path, sub.name]))
      p.on('assert', (result) => {
        const isEnd = !alone && path.length === 0 && result.name === `end of ${told?.file}`
        if (!isEnd) return told?.take(path, result)
        told.end(faultOf({ ...told, end: 0 }), errors)
        told = left.length > 0 ? new Told(left.shift()) : undefined
      })
    }
    watch(parser, [])
    child.stdout.pipe(parser)
    child.stderr.on('data', (data) => (errors = (errors + data).slice(-8000)))
    let late = false
    const timer = killAfter(child, bound, () => (late = true))
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      const end = signal ?? code
      // All have told all, and then something went wrong at the end: one of them it was.
      if (!told && (late || (end !== 0 && failed === before))) told = new Told(...files)
      told?.end(faultOf({ ...told, late, end: end === 0 && !alone ? 'no end' : end }), errors)
      resolve(left)
    })
  })
}

async function runAll(queue, width) {
  const workers = Array.from({ length: width }, async () => {
    for (let group = queue.shift(); group; group = queue.shift()) {
      for (const file of await run(group)) queue.push([file])
    }
  })
  await Promise.all(workers)
}

const alone = files.filter((file) => file.includes('.alone.'))
await runAll(groupsOf(files.filter((file) => !alone.includes(file))), soak ? 1 : jobs)
await runAll(
  alone.map((file) => [file]),
  1,
)
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed === 0 && passed > 0 ? 0 : 1)
