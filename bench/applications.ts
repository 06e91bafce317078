/**
 * `npm run bench -- applications`: programs as people run them, on a mounted directory with its daemon watching, against
 * the bare directory; and with the daemon frozen, so that what its watching costs can be told from the mount itself.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { clean, endKith, kith, run } from './commands.js'
import { compare, heading, type Figure } from './measure.js'
import { memoryPlace } from './mounts.js'

export interface ApplicationScale {
  /** of the tree that git and tar work on */
  files: number
  /** C files of the build */
  units: number
  /** packages of the npm project */
  packages: number
  rounds: number
}

interface Place {
  name: string
  dir: string
  /** around the measured part of a turn */
  before(): void
  after(): void
}

interface Application {
  label: string
  /** run once in each directory, and once more than the rounds need where a first run is slower */
  prepare: string
  /** run before each turn, unmeasured */
  reset: string
  /** the measured part */
  command: string
}

/** Shell scripts, run in a directory of their own; `$1` is the folder of what is common to all places. */
const applications: readonly Application[] = [
  // Of files as young as its index git reads the contents, too, in case they changed within the same second.
  {
    label: 'git status, just cloned',
    prepare: '',
    reset: 'rm -rf work && git clone -q "$1/origin" work',
    command: 'git -C work status',
  },
  {
    label: 'git status',
    prepare:
      'git clone -q "$1/origin" work && find work -type f -exec touch -d "1 hour ago" {} + && git -C work status',
    reset: '',
    command: 'git -C work status',
  },
  {
    label: 'git clone',
    prepare: '',
    reset: 'rm -rf clone',
    command: 'git clone -q --no-hardlinks "$1/origin" clone',
  },
  {
    label: 'make -j2',
    prepare: 'cp -r "$1/units" units',
    reset: 'make -s -C units clean',
    command: 'make -s -j2 -C units',
  },
  {
    label: 'npm ci',
    prepare: 'cp -r "$1/project" project',
    reset: 'rm -rf project/node_modules',
    command: 'cd project && npm ci --silent --offline --no-audit --no-fund --cache "$1/cache"',
  },
  { label: 'tar, unpacking', prepare: '', reset: 'rm -rf tree', command: 'tar -xf "$1/tree.tar"' },
  { label: 'tar, packing', prepare: 'tar -xf "$1/tree.tar"', reset: '', command: 'tar -cf - tree | wc -c' },
]

export async function benchApplications(scale: ApplicationScale, say: (line: string) => void): Promise<void> {
  const top = mkdtempSync(join(tmpdir(), 'kith-bench-'))
  try {
    const common = join(top, 'common')
    await makeCommon(common, scale)
    const disk = join(top, 'disk')
    mkdirSync(disk)
    const type = (await run('df', ['--output=fstype', disk])).stdout.split('\n')[1] ?? 'disk'
    await benchPlace(type, disk, top, common, scale, say)
    if (process.getuid?.() !== 0) {
      say('tmpfs: only root can mount one; left out')
      return
    }
    const memory = join(top, 'memory')
    const release = await memoryPlace(memory, 512 + scale.files / 20)
    try {
      await benchPlace('tmpfs', memory, top, common, scale, say)
    } finally {
      await release()
    }
  } finally {
    rmSync(top, { recursive: true, force: true })
  }
}

async function benchPlace(
  what: string,
  place: string,
  top: string,
  common: string,
  scale: ApplicationScale,
  say: (line: string) => void,
): Promise<void> {
  const bare = join(place, 'bare')
  const mounted = join(place, 'kith')
  for (const dir of [bare, mounted]) mkdirSync(dir)
  const home = join(top, `home-${what}`)
  await kith(home, 'init', '--phrase-out', join(top, `phrase-${what}`))
  await kith(home, 'mount', mounted)
  const signal = (name: NodeJS.Signals): void => {
    process.kill(Number(readFileSync(join(home, 'kithd.lock'), 'utf8')), name)
  }
  const nothing = (): void => undefined
  const places: Place[] = [
    { name: 'bare', dir: bare, before: nothing, after: nothing },
    { name: 'kith', dir: mounted, before: nothing, after: nothing },
    {
      name: 'unwatched',
      dir: mounted,
      before: () => signal('SIGSTOP'),
      after: () => signal('SIGCONT'),
    },
  ]
  const columns = places.map(({ name }) => name)
  say(
    `applications on ${what}: time as a multiple of the bare directory's (medians of ${scale.rounds} rounds);`,
  )
  say('unwatched: while the daemon is stopped')
  say(heading(columns))
  try {
    for (const application of applications) {
      const turns = new Map(places.map((each) => [each.name, turn(each, application, common)]))
      for (const each of places) await shell(application.prepare, own(each, application), common)
      say(line(application.label, columns, await compare(turns, scale.rounds)))
    }
  } finally {
    await endKith(home, mounted)
    await clean('rm', ['-rf', bare, mounted])
  }
  say('')
}

/** A directory of its own for each place and application, even where two places lie on one mount. */
function own(place: Place, { label }: Application): string {
  const dir = join(place.dir, `${place.name} ${label}`.replace(/\W+/g, '-'))
  mkdirSync(dir, { recursive: true })
  return dir
}

function turn(place: Place, application: Application, common: string): () => Promise<number> {
  return async () => {
    const dir = own(place, application)
    await shell(application.reset, dir, common)
    place.before()
    try {
      return await shell(application.command, dir, common)
    } finally {
      place.after()
    }
  }
}

async function shell(script: string, dir: string, common: string): Promise<number> {
  if (script === '') return 0
  return (await run('sh', ['-c', `cd "$2" && ${script}`, 'sh', common, dir])).seconds
}

function line(label: string, columns: readonly string[], figures: readonly Figure[]): string {
  const cells = columns.map((column, i) => {
    const figure = figures.find(({ contender }) => contender === column)
    if (!figure) return '-'.padStart(12)
    return (i === 0 ? `${figure.seconds.toFixed(3)} s` : (1 / figure.ratio).toFixed(2)).padStart(12)
  })
  return label.padEnd(26) + cells.join('')
}

/** What every place starts from: a repository, a tarball of its tree, C sources, and an npm project with its packages. */
async function makeCommon(common: string, { files, units, packages }: ApplicationScale): Promise<void> {
  const origin = join(common, 'origin')
  mkdirSync(origin, { recursive: true })
  for (let i = 0; i < files; i++) {
    const dir = join(origin, `part${i % 20}`, `section${Math.floor(i / 20) % 25}`)
    if (i < 500) mkdirSync(dir, { recursive: true })
    writeFileSync(join(dir, `file${i}.txt`), `${i} of ${files}\n`.repeat(1 + (i % 97) * 4))
  }
  const as = ['-c', 'user.name=bench', '-c', 'user.email=bench@example.org']
  await run('git', ['-C', origin, 'init', '-q'])
  // What comes from a server comes packed; and packing behind the commit's back would go on while it is being cloned.
  await run('git', ['-C', origin, 'config', 'gc.auto', '0'])
  await run('git', ['-C', origin, 'add', '-A'])
  await run('git', ['-C', origin, ...as, 'commit', '-qm', 'all'])
  await run('git', ['-C', origin, 'repack', '-adq'])
  const tar = ['-C', common, '--exclude=.git', '--transform=s/^origin/tree/', '-cf', join(common, 'tree.tar')]
  await run('tar', [...tar, 'origin'])
  makeUnits(join(common, 'units'), units)
  await makeProject(common, packages)
}

/** Each C file includes a dozen of the headers, each object depends on what it includes, as in a kernel's build. */
function makeUnits(dir: string, count: number): void {
  mkdirSync(join(dir, 'include'), { recursive: true })
  for (let i = 0; i < count; i++) {
    const includes = Array.from({ length: 12 }, (_, k) => `#include "h${(i * 7 + k * 13) % count}.h"\n`)
    const guarded = `#ifndef H${i}\n#define H${i}\nstruct s${i} { int a[${(i % 9) + 1}]; };\nint f${i}(int);\n#endif\n`
    writeFileSync(join(dir, 'include', `h${i}.h`), guarded)
    const body = `int f${i}(int x) { struct s${i} s = {{x}}; return s.a[0] + ${i}; }\n`
    writeFileSync(join(dir, `u${i}.c`), `${includes.join('')}#include "h${i}.h"\n${body}`)
  }
  writeFileSync(
    join(dir, 'Makefile'),
    [
      'objects = $(patsubst %.c,%.o,$(wildcard *.c))',
      'all.a: $(objects)',
      '\tar rcs $@ $^',
      '%.o: %.c',
      '\t$(CC) -O1 -Iinclude -MMD -c -o $@ $<',
      'clean:',
      '\trm -f *.o *.d all.a',
      '-include *.d',
      '',
    ].join('\n'),
  )
}

async function makeProject(common: string, count: number): Promise<void> {
  const project = join(common, 'project')
  const dependencies: Record<string, string> = {}
  mkdirSync(join(project, 'packed'), { recursive: true })
  for (let i = 0; i < count; i++) {
    const name = `part-${i}`
    const dir = join(common, 'packages', name, 'package')
    mkdirSync(join(dir, 'lib'), { recursive: true })
    writeFileSync(join(dir, 'package.json'), JSON.stringify({ name, version: '1.0.0', main: 'lib/0.js' }))
    for (let k = 0; k < 20; k++)
      writeFileSync(join(dir, 'lib', `${k}.js`), `module.exports = ${k}\n`.repeat(10 + k * 5))
    const packed = join(project, 'packed', `${name}.tgz`)
    await run('tar', ['-C', join(common, 'packages', name), '-czf', packed, 'package'])
    dependencies[name] = `file:packed/${name}.tgz`
  }
  writeFileSync(
    join(project, 'package.json'),
    JSON.stringify({ name: 'project', version: '1.0.0', dependencies }),
  )
  const options = '--silent --package-lock-only --offline --no-audit --no-fund'
  await shell(`npm install ${options} --cache "$1/cache"`, project, common)
}
