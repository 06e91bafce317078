/**
 * Blocks that several partners get at about the same time: whoever sends one first reads it, and compares it with its name; the
 * others have it from here, as long as they are not too far behind. Reading and hashing would else cost the owner as much
 * for each partner as a quarter of what the kernel takes to send it.
 */

interface Kept {
  read: Promise<Buffer | undefined>
  /** 0 until it is read */
  bytes: number
}

export class SharedReads {
  /** By name as latin1, the oldest first. */
  private readonly kept = new Map<string, Kept>()
  private bytes = 0
  private senders = 0

  /** @param most bytes that are kept, beside what is being read */
  constructor(private readonly most: number) {}

  /**
   * The block, which is not to be changed: of several that ask for it, one reads.
   * @param read what it resolves with, or throws, is what all get who ask meanwhile; only a block is kept for longer
   */
  get(name: Buffer, read: () => Promise<Buffer | undefined>): Promise<Buffer | undefined> {
    const id = name.toString('latin1')
    const known = this.kept.get(id)
    if (known) return known.read
    if (this.senders < 2) return read()
    const kept: Kept = { read: read(), bytes: 0 }
    this.kept.set(id, kept)
    kept.read.then(
      (block) => (block ? this.keep(id, kept, block.length) : this.forget(id, kept)),
      () => this.forget(id, kept),
    )
    return kept.read
  }

  /** One more partner gets blocks, until leave(). */
  join(): void {
    this.senders++
  }

  /** For one alone nothing is kept: that memory is for others. */
  leave(): void {
    this.senders--
    if (this.senders > 1) return
    this.kept.clear()
    this.bytes = 0
  }

  private keep(id: string, kept: Kept, bytes: number): void {
    if (this.kept.get(id) !== kept) return
    kept.bytes = bytes
    this.bytes += bytes
    for (const [oldest, one] of this.kept) {
      if (this.bytes <= this.most) return
      // What is being read has no bytes here yet.
      if (one.bytes > 0) this.forget(oldest, one)
    }
  }

  private forget(id: string, kept: Kept): void {
    if (this.kept.get(id) !== kept) return
    this.kept.delete(id)
    this.bytes -= kept.bytes
  }
}
