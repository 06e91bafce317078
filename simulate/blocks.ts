/** Blocks as kith seals them, for simulations: names that tell where they come from, and sizes as measured trees have them. */

type Random = () => number

/** 0..1 */
export function fraction(random: Random): number {
  return random() / 2 ** 32
}

/**
 * Sealed sizes: chunks of 16 to 256 KiB (64 on average) of which half compress well, packs and nodes, and blocks of single small
 * files: a few hundred bytes to a few KB, which are many, and few of the bytes.
 */
export function blockSize(random: Random): number {
  const kind = fraction(random)
  const squeezed = fraction(random) < 0.5 ? 0.15 + 0.4 * fraction(random) : 1
  if (kind < 0.55) {
    const cut = 16_384 - 48_000 * Math.log(1 - fraction(random))
    return Math.ceil(Math.min(262_144, cut) * squeezed) + 40
  }
  if (kind < 0.7) return Math.ceil((180_000 + 80_000 * fraction(random)) * squeezed)
  return 200 + Math.ceil(200 * Math.exp(5 * fraction(random)))
}

/** A name of 32 bytes from two numbers: as good as a hash for whoever hashes it again. */
export function blockNameOf(source: number, index: number): Buffer {
  const name = Buffer.alloc(32)
  name.writeUInt32LE(source, 0)
  name.writeUInt32LE(index, 4)
  return name
}
