/** A cache bounded by weight, least recently used out first; loads of one key that run at once are one load. */
export class WeightedCache<V> {
  private readonly entries = new Map<string, { value: V; weight: number }>()
  private readonly loading = new Map<string, Promise<V>>()
  private weight = 0

  /** @param maxWeight in the unit of `weigh`, e.g. bytes */
  constructor(
    private readonly maxWeight: number,
    private readonly weigh: (value: V) => number,
  ) {}

  get(key: string): V | undefined {
    const entry = this.entries.get(key)
    if (!entry) return undefined
    this.entries.delete(key)
    this.entries.set(key, entry)
    return entry.value
  }

  set(key: string, value: V): void {
    this.remove(key)
    const weight = this.weigh(value)
    this.entries.set(key, { value, weight })
    this.weight += weight
    for (const oldest of this.entries.keys()) {
      if (this.weight <= this.maxWeight) break
      this.remove(oldest)
    }
  }

  /** The cached value, or what `load` gives; a failed load is not kept. */
  async through(key: string, load: () => Promise<V>): Promise<V> {
    const known = this.get(key)
    if (known !== undefined) return known
    const running = this.loading.get(key)
    if (running) return running
    const started = load()
    this.loading.set(key, started)
    try {
      const value = await started
      this.set(key, value)
      return value
    } finally {
      this.loading.delete(key)
    }
  }

  private remove(key: string): void {
    const entry = this.entries.get(key)
    if (!entry) return
    this.entries.delete(key)
    this.weight -= entry.weight
  }
}
