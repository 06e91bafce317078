/** Events of a simulation in the order of their times: a binary heap. */

export interface Event<Kind extends string> {
  readonly at: number
  readonly node: number
  readonly kind: Kind
}

export class EventQueue<Kind extends string> {
  private readonly heap: Event<Kind>[] = []
  /** ms of the last event taken */
  now = 0

  add(event: Event<Kind>): void {
    const { heap } = this
    let at = heap.push(event) - 1
    while (at > 0) {
      const up = (at - 1) >> 1
      if (!this.isBefore(at, up)) return
      this.swap(at, up)
      at = up
    }
  }

  next(): Event<Kind> | undefined {
    const { heap } = this
    const first = heap[0]
    const last = heap.pop()
    if (!first || !last) return undefined
    if (heap.length > 0) {
      heap[0] = last
      for (let at = 0; ;) {
        let least = at
        for (const child of [2 * at + 1, 2 * at + 2])
          if (child < heap.length && this.isBefore(child, least)) least = child
        if (least === at) break
        this.swap(at, least)
        at = least
      }
    }
    this.now = first.at
    return first
  }

  /** At the same time, the smaller node first, so that runs are the same. */
  private isBefore(a: number, b: number): boolean {
    const [one, other] = [this.heap[a], this.heap[b]]
    if (!one || !other) return false
    return one.at < other.at || (one.at === other.at && one.node < other.node)
  }

  private swap(a: number, b: number): void {
    const [one, other] = [this.heap[a], this.heap[b]]
    if (!one || !other) return
    this.heap[a] = other
    this.heap[b] = one
  }
}
