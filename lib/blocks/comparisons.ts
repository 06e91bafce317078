/**
 * Records that were read, compared with what the index says of them. Those of one turn of the event loop are hashed side by
 * side: eight together take the processor about as long as one alone. Who reads several blocks and asks for them at once
 * gains by it; who asks for one waits for nothing.
 */
import { nextTick } from 'node:process'
import { blockNames } from '../format/seal.js'
import { isMeant, sealedOf } from './records.js'
import type { Place } from './segment-rows.js'

interface Asked {
  name: Buffer
  sealed: Buffer
  resolve(isSound: boolean): void
}

export class Comparisons {
  private asked: Asked[] = []

  /** Whether a record is the one that the index means, byte for byte. It must not change before this resolves. */
  matches(record: Buffer, name: Buffer, place: Place): Promise<boolean> {
    if (!isMeant(record, name, place)) return Promise.resolve(false)
    return new Promise((resolve) => {
      // After all that is ready now: what was in the kernel's memory was read within this turn.
      if (this.asked.push({ name, sealed: sealedOf(record), resolve }) === 1) nextTick(() => this.compare())
    })
  }

  private compare(): void {
    const { asked } = this
    this.asked = []
    const names = blockNames(asked.map(({ sealed }) => sealed))
    for (const [i, { name, resolve }] of asked.entries()) resolve(names[i]?.equals(name) === true)
  }
}
