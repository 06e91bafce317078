/**
 * The DHT as a search meets it: a topic is kept by 20 nodes, each of which answers a lookup with at most 20 of its records, drawn by
 * chance, as HyperDHT does (hyperdht/lib/persistent.js, record-cache). Counted are messages, requests and replies alike.
 */
import { fraction } from './blocks.js'
import type { Random } from './population.js'

const keepers = 20
const recordsOfAnswer = 20
/** requests on the way to the keepers of a topic, and theirs; each has a reply */
export const lookupMessages = 2 * (20 + keepers)
export const announceMessages = lookupMessages + 2 * keepers
/** a handshake through the DHT, the gate, the query with its answer, challenges and proofs */
export const meetMessages = 14

export class ModelPool {
  private readonly topics = new Map<string, { list: number[]; at: Map<number, number> }>()

  constructor(private readonly random: Random) {}

  announce(topic: string, node: number): void {
    let records = this.topics.get(topic)
    if (!records) this.topics.set(topic, (records = { list: [], at: new Map() }))
    if (records.at.has(node)) return
    records.at.set(node, records.list.length)
    records.list.push(node)
  }

  withdraw(topic: string, node: number): void {
    const records = this.topics.get(topic)
    const at = records?.at.get(node)
    if (!records || at === undefined) return
    const last = records.list.pop()
    records.at.delete(node)
    if (last === undefined || last === node) return
    records.list[at] = last
    records.at.set(last, at)
  }

  /** What all keepers answer together. */
  lookup(topic: string): Set<number> {
    const list = this.topics.get(topic)?.list ?? []
    if (list.length <= recordsOfAnswer) return new Set(list)
    const found = new Set<number>()
    for (let keeper = 0; keeper < keepers; keeper++) {
      const drawn = new Set<number>()
      while (drawn.size < recordsOfAnswer) drawn.add(Math.floor(fraction(this.random) * list.length))
      for (const i of drawn) found.add(list[i] ?? 0)
    }
    return found
  }
}
