/**
 * How nodes of a simulated network live over years: they go on and off line each day, go away for days or weeks, lose their disk,
 * leave with notice, or die, alone or with all of their site. Each node has its own seeded chance, so that what happens to it does
 * not depend on who asks. Times are ms of the simulation.
 */
import { seeded } from '../lib/base/random.js'
import { fraction } from './blocks.js'

export const dayMs = 86_400_000
export const yearMs = 365 * dayMs
export const noticeMs = 14 * dayMs

export interface LivesOptions {
  readonly forMs: number
  readonly seed: number
  /** 0..1: of the nodes, those whose data is lost within a year, in whichever way */
  readonly failures: number
  /** 0..1 of the time that a node is on line, all absences counted */
  readonly availability: number
  /** Nodes of a site share its disasters, which end all of them: 0..1 of the sites in a year. They count as failures. */
  readonly sites: number
  readonly disasters: number
}

/** `dies`: never seen again; `wiped`: has lost all it held, and goes on as if nothing were; `leaves`: with notice. */
type Ending = 'dies' | 'wiped' | 'leaves'

export interface Absence {
  readonly from: number
  readonly until: number
  readonly isAnnounced: boolean
}

/** Of the failures of single nodes. The rest die. */
const wipedPart = 0.2
const leavingPart = 0.2
/** Days; so many a year. The overlong ones break every agreement that has a grace of a month. */
const holidays = { perYear: 2, least: 3, most: 21 }
const overlong = { perYear: 0.03, least: 40, most: 90 }
const announcedPart = 0.5

const meanOf = ({ least, most }: typeof holidays) => ((least + most) / 2) * dayMs
const absencesPerYear = holidays.perYear + overlong.perYear
const awayPart = (holidays.perYear * meanOf(holidays) + overlong.perYear * meanOf(overlong)) / yearMs

/** On and off line in turns, which together take a day on average; who is off is so for less than two days' worth of it. */
export class Turns {
  private isOn: boolean
  private next: number

  constructor(
    private readonly random: () => number,
    private readonly share: number,
    born: number,
  ) {
    this.isOn = fraction(random) < share
    this.next = born + this.lasts() * fraction(random)
  }

  /** Asked in the order of time. */
  isOnline(now: number): boolean {
    while (this.next <= now) {
      this.isOn = !this.isOn
      this.next += this.lasts()
    }
    return this.isOn
  }

  private lasts(): number {
    if (this.isOn) return exponential(this.random, this.share * dayMs)
    return 2 * (1 - this.share) * dayMs * fraction(this.random)
  }
}

export class Node {
  readonly id: string
  /** when what it holds is lost; with notice, it leaves then */
  readonly ends: number
  readonly ending: Ending
  /** when it is seen for the last time */
  readonly dies: number
  readonly absences: readonly Absence[]
  private readonly turns: Turns
  private at = 0

  /** @param disaster of its site, the next one after it was born; Infinity: none */
  constructor(
    readonly number: number,
    readonly site: number,
    readonly born: number,
    private readonly options: LivesOptions,
    disaster: number,
  ) {
    this.id = `n${number}`
    const random = seeded(options.seed * 7919 + number * 104_729 + 1)
    const alone = Math.max(0, options.failures - options.disasters)
    const fails = alone > 0 ? born + exponential(random, meanMs(alone)) : Infinity
    const kind = fraction(random)
    const ending = kind < wipedPart ? 'wiped' : kind < wipedPart + leavingPart ? 'leaves' : 'dies'
    this.ending = disaster <= fails ? 'dies' : ending
    this.ends = Math.min(fails, disaster)
    const leaves = Math.min(disaster, this.ends + noticeMs)
    this.dies = this.ending === 'dies' ? this.ends : this.ending === 'leaves' ? leaves : disaster
    this.absences = absencesOf(random, born, options.forMs)
    this.turns = this.turnsOf()
  }

  /** The same again, to be asked by itself. */
  turnsOf(): Turns {
    const { seed, availability } = this.options
    const share = Math.min(1, availability / (1 - awayPart))
    return new Turns(seeded(seed * 15_485_863 + this.number * 7 + 3), share, this.born)
  }

  /** Asked in the order of time. */
  isOnline(now: number): boolean {
    return this.turns.isOnline(now) && !this.isAway(now)
  }

  /** Gone for days, or for good. */
  isAway(now: number): boolean {
    return now >= this.dies || this.absenceAt(now) !== undefined
  }

  absenceAt(now: number): Absence | undefined {
    const { absences } = this
    while (this.at > 0 && now < (absences[this.at - 1]?.until ?? 0)) this.at--
    while (now >= (absences[this.at]?.until ?? Infinity)) this.at++
    const absence = absences[this.at]
    return absence && now >= absence.from ? absence : undefined
  }

  /** It has what it took, whether it can be reached or not. */
  holds(now: number): boolean {
    return now < (this.ending === 'leaves' ? this.dies : this.ends)
  }
}

/** By site, when disasters happen. */
export function disastersOf({ sites, disasters, forMs, seed }: LivesOptions): number[][] {
  const random = seeded(seed * 31 + 5)
  return Array.from({ length: sites }, () => {
    const times: number[] = []
    if (disasters <= 0) return times
    const mean = meanMs(disasters)
    for (let at = exponential(random, mean); at < forMs; at += exponential(random, mean)) times.push(at)
    return times
  })
}

export function exponential(random: () => number, mean: number): number {
  return -Math.log(1 - fraction(random)) * mean
}

/** Until something that happens to so many in a year. */
function meanMs(yearly: number): number {
  return yearMs / -Math.log(1 - yearly)
}

/** One after the other, with a while between them. */
function absencesOf(random: () => number, born: number, until: number): Absence[] {
  const cycle = yearMs / absencesPerYear
  const between = cycle * (1 - awayPart)
  const found: Absence[] = []
  for (let at = born; ;) {
    const from = at + exponential(random, between)
    const { least, most } = fraction(random) < overlong.perYear / absencesPerYear ? overlong : holidays
    at = from + (least + (most - least) * fraction(random)) * dayMs
    const isAnnounced = fraction(random) < announcedPart
    if (from >= until) return found
    found.push({ from, until: at, isAnnounced })
  }
}
