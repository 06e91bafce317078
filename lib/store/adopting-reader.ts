/** Blocks from here, or else from partners, and kept here from then on, where there is room for them. */
import type { BlockReader, BlockStore } from '../blocks/block-store.js'
import { KithError } from '../base/errors.js'
import { blockKind, blockName } from '../format/seal.js'

/** What was fetched becomes durable in steps of so many bytes; a crash costs no more than fetching it again. */
const commitBytes = 16 * 1024 * 1024

export class AdoptingReader implements BlockReader {
  private adopted = 0

  constructor(
    private readonly local: BlockStore,
    private readonly remote: BlockReader,
    /** Whether chunks are kept; nodes always are. */
    private readonly hasRoom: () => boolean = () => true,
  ) {}

  async get(name: Buffer): Promise<Buffer | undefined> {
    const here = await this.fromHere(name)
    if (here) return here
    const bytes = await this.remote.get(name)
    if (!bytes) return undefined
    if (!blockName(bytes).equals(name)) {
      throw new KithError('damaged', `block ${name.toString('hex', 0, 6)} came damaged: try another partner`)
    }
    if (blockKind(bytes) !== 'chunk' || this.hasRoom()) await this.adopt(name, bytes)
    return bytes
  }

  /** A damaged block of ours is as good as none: a whole one takes its place. */
  private async fromHere(name: Buffer): Promise<Buffer | undefined> {
    try {
      return await this.local.get(name)
    } catch (error) {
      if (error instanceof KithError && error.code === 'damaged') return undefined
      throw error
    }
  }

  private async adopt(name: Buffer, bytes: Buffer): Promise<void> {
    try {
      await this.local.put(name, bytes)
      this.adopted += bytes.length
      if (this.adopted < commitBytes) return
      this.adopted = 0
      await this.local.commit()
    } catch (error) {
      // A full disk stops no reading.
      if (!(error instanceof KithError) || error.code !== 'noSpace') throw error
    }
  }
}
