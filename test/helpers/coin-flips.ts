/** Coin flips of audits with sides that cheat, and how even their outcome is. */
import { commitment, drawnWindows } from '../../lib/format/coin.js'
import { Flips } from '../../lib/vault/flips.js'
import { TestClock } from './backup.js'
import { seededBytes } from './bytes.js'

/** Chance that a fair coin gives counts at least as uneven, by the normal approximation of Wilson and Hilferty (1931). */
export function evenness(counts: readonly number[]): number {
  const expected = counts.reduce((sum, count) => sum + count, 0) / counts.length
  const chi = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
  const freedom = counts.length - 1
  const z = (Math.cbrt(chi / freedom) - (1 - 2 / (9 * freedom))) / Math.sqrt(2 / (9 * freedom))
  return 0.5 * erfc(z / Math.SQRT2)
}

/** Abramowitz and Stegun 7.1.26: to 1.5e-7. */
function erfc(x: number): number {
  const u = 1 / (1 + 0.3275911 * Math.abs(x))
  const sum = ((((1.061405429 * u - 1.453152027) * u + 1.421413741) * u - 0.284496736) * u + 0.254829592) * u
  const tail = sum * Math.exp(-x * x)
  return x >= 0 ? tail : 2 - tail
}

interface Flipped {
  r1: Buffer
  r2: Buffer
}

const one = { bits: 6, draws: 1 }
const low = ({ r1, r2 }: Flipped): boolean => (drawnWindows(r1, r2, one)[0] ?? 0) < 32

/** How often each of the 64 windows was drawn. */
function counted(flips: number, flip: () => Flipped): number[] {
  const counts = new Array<number>(64).fill(0)
  for (let i = 0; i < flips; i++) {
    const { r1, r2 } = flip()
    for (const window of drawnWindows(r1, r2, one)) counts[window] = (counts[window] ?? 0) + 1
  }
  return counts
}

/** What each pair of sides brings about, in so many flips; `second`: flips that a holder took beside an open one. */
export function cheatedFlips(random: () => number, flips: number) {
  const bytes = (): Buffer => seededBytes(random, 32)
  const owner = Buffer.alloc(32, 1)
  const fixed = Buffer.alloc(32, 9)
  const clock = new TestClock()
  let second = 0
  const sides: Record<string, () => Flipped> = {
    'both honest': () => ({ r1: bytes(), r2: bytes() }),
    'an owner with always the same r1': () => ({ r1: fixed, r2: bytes() }),
    'a holder with always the same r2': () => ({ r1: bytes(), r2: fixed }),
    'an owner that breaks off what it does not like': () => {
      const holder = new Flips(bytes(), clock)
      const r1 = bytes()
      const r2 = holder.flip(owner, commitment(r1, one))
      if (!low({ r1, r2 })) return { r1, r2 }
      // It does not like a low window, and tries others: none is taken before the first is revealed.
      try {
        holder.flip(owner, commitment(bytes(), one))
        second++
      } catch {
        // As it should.
      }
      return { r1, r2: holder.reveal(owner, r1, one) }
    },
    'a holder that breaks off what it does not like': () => {
      const holder = new Flips(bytes(), clock)
      const r1 = bytes()
      const r2 = holder.flip(owner, commitment(r1, one))
      // It hangs up on a low window, and is asked to reveal the same again.
      return { r1, r2: low({ r1, r2 }) ? holder.reveal(owner, r1, one) : r2 }
    },
  }
  const counts = new Map(Object.entries(sides).map(([name, flip]) => [name, counted(flips, flip)]))
  /** one that may try again now and then */
  const skewed = counted(flips, () => {
    const flip = { r1: bytes(), r2: bytes() }
    return low(flip) && random() % 10 === 0 ? { r1: bytes(), r2: flip.r2 } : flip
  })
  return { counts, second, skewed }
}
