/**
 * Partners at rest: friends of whom nothing is left to fetch or to drop, here or there, since their agreement is over. They stay
 * listed, and are let in when they come, but nobody dials them. Who ended it by notice is not sought at all; whose agreement just ran
 * out may have been away, so it is met when it is seen in the circle, and both go on.
 *
 * Table `resting`, under the partner's key: [0] 1, ended by notice; 2, ran out
 */
import { encodings, type Database, type Table } from '../blocks/database.js'

export type Rest = 'ended' | 'expired'

const kinds: readonly (Rest | undefined)[] = [undefined, 'ended', 'expired']

export class Resting {
  private readonly table: Table<Buffer, Buffer>
  private readonly rows = new Map<string, Rest>()

  constructor(private readonly db: Database) {
    this.table = db.table('resting', encodings.bytes, encodings.bytes)
    for (const { key, value } of this.table.range()) {
      const kind = kinds[value[0] ?? 0]
      if (kind) this.rows.set(key.toString('hex'), kind)
    }
  }

  of(id: string): Rest | undefined {
    return this.rows.get(id)
  }

  /** Durable when it resolves. */
  async set(key: Buffer, kind: Rest): Promise<void> {
    await this.db.transaction(() => this.table.put(key, Buffer.from([kinds.indexOf(kind)])))
    this.rows.set(key.toString('hex'), kind)
  }

  /** It is dialled again. A row that stays since the disk is full costs a dial after the next start, no more: see `set`. */
  async end(key: Buffer): Promise<void> {
    if (!this.rows.delete(key.toString('hex'))) return
    await this.db.transaction(() => this.table.remove(key))
  }
}
