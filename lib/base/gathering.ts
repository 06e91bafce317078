/**
 * Work for the thread pool, gathered: what is asked for within one turn of the event loop goes there as few pieces. Waking a thread
 * for a piece takes some 25 to 60 µs of the thread that does it, where making a small file takes less.
 */
interface Wanted<T, R> {
  item: T
  resolve: (result: R) => void
  reject: (error: unknown) => void
}

export interface Bounds<T> {
  /** Of one piece of work. One that is larger by itself is a piece of its own. */
  items: number
  bytes: number
  bytesOf: (item: T) => number
}

export class Gathering<T, R> {
  private waiting: Wanted<T, R>[] = []

  /** @param run does all of them, and tells of each what came of it; rejects when none was done */
  constructor(
    private readonly run: (items: T[]) => Promise<(R | Error)[]>,
    private readonly bounds: Bounds<T>,
  ) {}

  /** Resolves or rejects as `run` says of it. */
  add(item: T): Promise<R> {
    return new Promise((resolve, reject) => {
      if (this.waiting.length === 0) setImmediate(() => this.flush())
      this.waiting.push({ item, resolve, reject })
    })
  }

  private flush(): void {
    const waiting = this.waiting
    this.waiting = []
    const { items, bytes, bytesOf } = this.bounds
    let from = 0
    let gathered = 0
    waiting.forEach(({ item }, i) => {
      if (i > from && (i - from === items || gathered + bytesOf(item) > bytes)) {
        void settle(this.run, waiting.slice(from, i))
        from = i
        gathered = 0
      }
      gathered += bytesOf(item)
    })
    void settle(this.run, waiting.slice(from))
  }
}

async function settle<T, R>(
  run: (items: T[]) => Promise<(R | Error)[]>,
  wanted: Wanted<T, R>[],
): Promise<void> {
  try {
    const results = await run(wanted.map(({ item }) => item))
    wanted.forEach(({ resolve, reject }, i) => {
      const result = results[i]
      if (result instanceof Error) reject(result)
      else resolve(result as R)
    })
  } catch (error) {
    for (const { reject } of wanted) reject(error)
  }
}
