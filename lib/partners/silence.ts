/**
 * Ends streams whose other side is gone without a word: nothing came for `silenceBound`, not even the keep-alives that each side
 * sends every 5 s.
 *
 * A stream has a time-out of its own, which it sets anew for each packet: while much is taken in, that is a timer moved for
 * every 1,400 bytes. Here the count of what came is looked at now and then. Looks are counted and not the time between them, so that
 * a process that was stopped for a while does not take its own absence for the other's.
 */
import type { Clock, Timer } from '../base/clock.js'

/** A stream over which nothing came for so long is dead, ms. It is noticed within one look more. */
export const silenceBound = 20_000
const lookMs = 5_000

/** The part of a Noise stream that this needs. */
export interface Heard {
  /** `bytesReceived`: of all packets that came for the stream, acknowledgements included */
  readonly rawStream: { readonly bytesReceived: number } | null
  once(event: 'close', closed: () => void): unknown
  destroy(error: Error): unknown
}

/** @param clock of this machine: the keep-alives of the other side go by such a one, whatever clock a test has */
export function endWhenSilent(stream: Heard, clock: Clock): void {
  let came = -1
  let silentLooks = 0
  let timer: Timer
  const look = () => {
    const bytes = stream.rawStream?.bytesReceived ?? 0
    silentLooks = bytes === came ? silentLooks + 1 : 0
    came = bytes
    if (silentLooks * lookMs >= silenceBound) stream.destroy(new Error('nothing came from the peer'))
    else timer = clock.after(lookMs, look)
  }
  look()
  stream.once('close', () => timer.cancel())
}
