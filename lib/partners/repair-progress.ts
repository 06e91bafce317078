/**
 * How far the repair of stripes is (mender.ts): kept on disk, so that `status` says after a restart what it said before, until the
 * mender has looked again.
 *
 *     repair stripes  number of a stripe of which an element was to be made again since the repair began, u64 big endian -> bytes of
 *                     its elements that nobody makes yet, u64 big endian; 0: they are on their way, or there
 *
 * What is on its way has rows of its own (moves.ts). Nothing but what is shown hangs on these: one that is behind is put right
 * by the next look.
 */
import { type Database, encodings, type Table } from '../blocks/database.js'

export class RepairProgress {
  private readonly rows: Table<number, number>
  private readonly all: Map<number, number>

  /** @param db of the partners folder */
  constructor(private readonly db: Database) {
    this.rows = db.table('repair stripes', encodings.number, encodings.number)
    this.all = new Map([...this.rows.range()].map(({ key, value }) => [key, value]))
  }

  /** Stripes since the repair began. */
  get stripes(): number {
    return this.all.size
  }

  has(number: number): boolean {
    return this.all.has(number)
  }

  /** Those of which an element waits, with the bytes of these elements. */
  waiting(): Map<number, number> {
    return new Map([...this.all].filter(([, bytes]) => bytes > 0))
  }

  /** What waits now, by a look at all stripes: what waited before and is not among it is done with. */
  async found(waiting: ReadonlyMap<number, number>): Promise<void> {
    const gone = [...this.waiting().keys()].filter((number) => !waiting.has(number))
    await this.put([...waiting, ...gone.map((number): [number, number] => [number, 0])])
  }

  /** An element of the stripe is made; others with so many bytes wait. */
  made(number: number, left: number): Promise<void> {
    return this.put([[number, Math.max(0, left)]])
  }

  /** The repair is over: the next begins anew. */
  async end(): Promise<void> {
    if (this.all.size === 0) return
    const numbers = [...this.all.keys()]
    this.all.clear()
    await this.db.transaction(() => numbers.forEach((number) => this.rows.remove(number)))
  }

  private async put(rows: readonly [number, number][]): Promise<void> {
    const changed = rows.filter(([number, bytes]) => this.all.get(number) !== bytes)
    if (changed.length === 0) return
    for (const [number, bytes] of changed) this.all.set(number, bytes)
    await this.db.transaction(() => changed.forEach(([number, bytes]) => this.rows.put(number, bytes)))
  }
}
