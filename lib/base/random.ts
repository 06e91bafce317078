/** Randomness: from the system for keys and nonces, seeded for tests and simulations. */
import { randomBytes as systemBytes } from 'node:crypto'

export function randomBytes(length: number): Buffer {
  return systemBytes(length)
}

/** A seeded generator of 32-bit numbers (SplitMix32); for tests and simulations only, never for keys. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x9e3779b9) >>> 0
    let z = state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }
}
