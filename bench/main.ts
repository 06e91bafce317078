/**
 * `npm run bench [-- mount|applications|browse|snapshots|changes|history|network|format|seal ...] [--small]`: without a subject, all
 * of them; `changes` and `history` are part of `snapshots`. Figures are ratios within this run; docs/benchmarks.md has those of a quiet machine. Peers that are not installed are left out with a notice.
 */
import { interrupted } from './commands.js'
import { benchApplications } from './applications.js'
import { benchBrowse } from './browse.js'
import { benchChanges, type ChangesScale } from './changes.js'
import { benchFormat } from './format.js'
import { benchHistory, type HistoryScale } from './history.js'
import { benchMount } from './mount.js'
import { benchNetwork } from './network.js'
import { benchOverlap } from './overlap.js'
import { benchSeal } from './seal.js'
import { benchSnapshots } from './snapshots.js'

const subjects = [
  'format',
  'seal',
  'mount',
  'applications',
  'browse',
  'snapshots',
  'changes',
  'history',
  'network',
] as const
/** Without a subject: `changes` and `history` are run by `snapshots`. */
const whole = subjects.filter((subject) => subject !== 'changes' && subject !== 'history')
type Subject = (typeof subjects)[number]

function say(line: string): void {
  console.log(line)
}

function isSubject(text: string): text is Subject {
  return (subjects as readonly string[]).includes(text)
}

function changes(small: boolean): ChangesScale {
  return small
    ? { sizes: [1000, 10_000], wide: 10_000, rounds: 3, closed: 40 }
    : { sizes: [10_000, 100_000, 1_000_000], wide: 1_000_000, rounds: 7, closed: 40 }
}

function history(small: boolean): HistoryScale {
  return small ? { versions: 5, gigabytes: 2 } : { versions: 20, gigabytes: 10 }
}

async function main(args: string[]): Promise<number> {
  const small = args.includes('--small')
  const named = args.filter((arg) => arg !== '--small')
  const wrong = named.find((arg) => !isSubject(arg))
  if (wrong !== undefined) {
    console.error(`bench: ${wrong} is none of ${subjects.join(', ')}, --small`)
    return 2
  }
  for (const subject of named.length > 0 ? named.filter(isSubject) : whole) {
    if (subject === 'format') benchFormat(small ? 5 : 31, say)
    else if (subject === 'seal') await benchSeal({ megabytes: small ? 24 : 96, rounds: small ? 3 : 11 }, say)
    else if (subject === 'mount')
      await benchMount(
        small ? { megabytes: 32, files: 1000, rounds: 3 } : { megabytes: 512, files: 20_000, rounds: 7 },
        say,
      )
    else if (subject === 'applications')
      await benchApplications(
        small
          ? { files: 2000, units: 50, packages: 20, rounds: 3 }
          : { files: 6000, units: 150, packages: 60, rounds: 3 },
        say,
      )
    else if (subject === 'network') {
      await benchNetwork(small ? { megabytes: 128, rounds: 3 } : { megabytes: 1024, rounds: 5 }, say)
      await benchOverlap({ megabytes: small ? 40 : 400 }, say)
    } else if (subject === 'browse')
      await benchBrowse(
        small ? { files: 5000, megabytes: 50, rounds: 3 } : { files: 100_000, megabytes: 500, rounds: 3 },
        say,
      )
    else if (subject === 'changes') await benchChanges(changes(small), say)
    else if (subject === 'history') await benchHistory(history(small), say)
    else {
      await benchSnapshots(
        small ? { tree: { megabytes: 20 }, rounds: 1, repeats: 2 } : { tree: 'usr', rounds: 3, repeats: 3 },
        say,
      )
      await benchChanges(changes(small), say)
      await benchHistory(history(small), say)
    }
  }
  return 0
}

process.once('SIGINT', () => interrupted.abort())
try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  console.error(interrupted.signal.aborted ? 'bench: interrupted' : error)
  process.exitCode = 1
}
