/**
 * What the store has removed, for partners to follow: they hold every block until they are told (partners/upload.ts).
 *
 * Table `removed`: number, from 1 -> block name. Numbers only grow: the newest row stays, also when everybody was told.
 */
import { type Database, encodings, type Table } from '../blocks/database.js'

export class Removed {
  private readonly rows: Table<number, Buffer>

  constructor(private readonly db: Database) {
    this.rows = db.table('removed', encodings.number, encodings.bytes)
  }

  /** The number of the newest row; 0 before the first. */
  get last(): number {
    for (const number of this.rows.keysOf({ reverse: true, limit: 1 })) return number
    return 0
  }

  /** Inside a transaction. */
  add(names: readonly Buffer[]): void {
    const first = this.last + 1
    names.forEach((name, i) => this.rows.put(first + i, name))
  }

  since(number: number, limit: number): { number: number; name: Buffer }[] {
    return [...this.rows.range({ start: number + 1, limit })].map(({ key, value }) => {
      return { number: key, name: value }
    })
  }

  /** Everybody was told of the rows up to this one. */
  async told(number: number): Promise<void> {
    const end = Math.min(number + 1, this.last)
    const page = [...this.rows.keysOf({ end, limit: 10_000 })]
    if (page.length === 0) return
    await this.db.transaction(() => {
      for (const key of page) this.rows.remove(key)
    })
  }
}
