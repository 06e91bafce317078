/** Events of a simulation in the order of their times: a binary heap. */

export interface Event<Kind extends string> {
  readonly at: number
  readonly node: number
  readonly kind: Kind
}

export class EventQueue<Kind extends string> {
  /** The heap, an array for each field: what is compared lies side by side. */
  private readonly times: number[] = []
  private readonly nodes: number[] = []
  private readonly kinds: Kind[] = []
  /** ms of the last event taken */
  now = 0

  add({ at: time, node, kind }: Event<Kind>): void {
    const { times, nodes } = this
    let at = times.length
    this.put(at, time, node, kind)
    while (at > 0) {
      const up = (at - 1) >> 1
      if (!isBefore(time, node, times[up], nodes[up])) break
      this.move(up, at)
      at = up
    }
    this.put(at, time, node, kind)
  }

  next(): Event<Kind> | undefined {
    const { times, nodes, kinds } = this
    const [at, node, kind] = [times[0], nodes[0], kinds[0]]
    const [lastTime, lastNode, lastKind] = [times.pop(), nodes.pop(), kinds.pop()]
    if (at === undefined || node === undefined || kind === undefined) return undefined
    if (lastTime === undefined || lastNode === undefined || lastKind === undefined) return undefined
    if (times.length > 0) this.sink(lastTime, lastNode, lastKind)
    this.now = at
    return { at, node, kind }
  }

  /** Puts it at the top, and down from there to its place. */
  private sink(time: number, node: number, kind: Kind): void {
    const { times, nodes } = this
    let at = 0
    for (let child = 1; child < times.length; child = 2 * at + 1) {
      const other = child + 1
      if (other < times.length && isBefore(times[other], nodes[other], times[child], nodes[child]))
        child = other
      if (!isBefore(times[child], nodes[child], time, node)) break
      this.move(child, at)
      at = child
    }
    this.put(at, time, node, kind)
  }

  private move(from: number, to: number): void {
    const { times, nodes, kinds } = this
    this.put(to, times[from] ?? 0, nodes[from] ?? 0, kinds[from] as Kind)
  }

  private put(at: number, time: number, node: number, kind: Kind): void {
    this.times[at] = time
    this.nodes[at] = node
    this.kinds[at] = kind
  }
}

/** At the same time, the smaller node first, so that runs are the same. */
function isBefore(time = 0, node = 0, otherTime = 0, otherNode = 0): boolean {
  return time < otherTime || (time === otherTime && node < otherNode)
}
