/**
 * FastCDC with normalised chunking (Xia et al., USENIX ATC 2016; the two-byte roll: IEEE TPDS 2020), for WebAssembly.
 *
 * A rolling gear hash h = (h << 1) + G[byte] depends on the last 64 bytes. A chunk ends where h has zeros under a mask:
 * a strict mask until the chunk has `normal` bytes, a loose one from there on, and at `max` bytes in any case. Within the
 * first `min` bytes no end is looked for; the hash is warmed up over the last 64 of them, so that whether a place is a
 * candidate depends on the 64 bytes before it and on nothing else.
 *
 * The imported memory is laid out by lib/format/chunker.ts, which owns it:
 *
 *     [0..2048)       gear table G: 256 u64
 *     [2048..4096)    the same, shifted left by one: with it two bytes take one shift of h
 *     [4096..65536)   out: ends of chunks, u32, relative to `data`; at most 15,360
 *     [65536..)       data
 *
 * Two bytes a turn: after h2 = (h << 2) + 2 G[a] the hash after a is h2 / 2, so it is tested under twice the mask; that
 * loses the top bit, and masks therefore leave bit 63 out. Nothing is allocated and no bound is checked here: the caller
 * guarantees 64 <= min < normal < max, min and normal even, max even, and length within the memory.
 */

const GEAR: usize = 0
const GEAR2: usize = 2048
const CUTS: usize = 4096
const DATA: usize = 65536
const WINDOW: usize = 64

/** The end of the first chunk of the bytes in [start, limit), or 0 when the mask finds none before `limit`. */
// @ts-ignore: decorator
@inline
function scan(from: usize, to: usize, h0: u64, mask: u64): usize {
  let h = h0
  let at = from
  const mask2 = mask << 1
  while (at < to) {
    h = (h << 2) + load<u64>(GEAR2 + ((<usize>load<u8>(at)) << 3))
    if (!(h & mask2)) return at + 1
    h += load<u64>(GEAR + ((<usize>load<u8>(at, 1)) << 3))
    if (!(h & mask)) return at + 2
    at += 2
  }
  state = h
  return 0
}

/** The hash where the last scan stopped without an end. */
let state: u64 = 0

/**
 * Writes the ends of the chunks of data[from, length) to the table and returns how many. Unless `end`, a last piece that
 * more bytes could extend is left over. Every end is the same whether bytes came at once or in pieces.
 */
export function cut(
  from: u32,
  length: u32,
  end: bool,
  min: u32,
  normal: u32,
  max: u32,
  strict: u64,
  loose: u64,
): u32 {
  let start: usize = DATA + <usize>from
  const stop = DATA + <usize>length
  let count: usize = 0
  while (start < stop) {
    const left = stop - start
    let found: usize = 0
    if (left > <usize>min) {
      let h: u64 = 0
      const first = start + min
      for (let at = first - WINDOW; at < first; at++) h = (h << 1) + load<u64>(GEAR + ((<usize>load<u8>(at)) << 3))
      const limit = start + (left < <usize>max ? left : max)
      // Whole pairs only; the odd last byte before `limit` can only end a chunk when the data ends there.
      const middle = left < <usize>normal ? first + ((limit - first) & ~1) : start + normal
      found = scan(first, middle, h, strict)
      if (!found && left >= <usize>normal) found = scan(middle, middle + ((limit - middle) & ~1), state, loose)
      if (!found && left >= <usize>max) found = start + max
    }
    if (!found) {
      if (!end) break
      found = stop
    }
    store<u32>(CUTS + (count << 2), <u32>(found - DATA))
    count++
    start = found
  }
  return <u32>count
}
