/**
 * When partners are on line, as this node sees it: every few minutes, while it has a network, it is noted who is there. That is
 * what `kith partners --why` shows and selection reckons with, rather than what was promised.
 *
 * Table `presence`, under the partner's key, 1,348 bytes: [0] version, 1  [1..4) 0  then for each of the 168 hours of a week, UTC,
 * from Monday 0 h: ms looked at u32, ms seen there u32. Written every hour and at the end; a crash loses an hour's worth.
 */
import type { Clock, Timer } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { encodings, type Database, type Table } from '../blocks/database.js'
import { Reader, Writer } from '../format/bytes.js'
import { type Presence, seen, unseen } from '../planning/hours.js'
import { weekHours } from '../planning/types.js'

const lookMs = 5 * 60_000
/** What took longer between two looks was sleep, or a clock that jumped: nothing was seen. */
const longestMs = 3 * lookMs
const looksToWrite = 12
const version = 1
const rowBytes = 4 + 8 * weekHours

export interface PresenceOptions {
  db: Database
  /** partners that are listed, on line or not */
  partners(): { key: Buffer; online: boolean }[]
  /** whether this node has a network */
  isConnected(): boolean
  clock: Clock
  log: Log
}

export class Presences {
  private readonly table: Table<Buffer, Buffer>
  private readonly known = new Map<string, Presence>()
  private lookedAt: number
  private looks = 0
  private timer: Timer
  private writing: Promise<void> = Promise.resolve()

  constructor(private readonly options: PresenceOptions) {
    this.table = options.db.table('presence', encodings.bytes, encodings.bytes)
    for (const { key, value } of this.table.range()) {
      const presence = this.read(value)
      if (presence) this.known.set(key.toString('hex'), presence)
    }
    this.lookedAt = options.clock.monotonic()
    this.timer = this.nextLook()
  }

  of(partner: Buffer): Presence {
    return this.known.get(partner.toString('hex')) ?? unseen
  }

  /** Resolves when nothing is written any more. */
  async stop(): Promise<void> {
    this.timer.cancel()
    await this.write()
  }

  /** What cannot be read is seen anew: no reason not to start. */
  private read(bytes: Buffer): Presence | undefined {
    try {
      return decodePresence(bytes)
    } catch (error) {
      this.options.log.warn({ err: error }, 'when a partner was on line could not be read')
      return undefined
    }
  }

  private nextLook(): Timer {
    return this.options.clock.after(lookMs, () => this.look())
  }

  private look(): void {
    const { clock, isConnected, partners } = this.options
    const ms = clock.monotonic() - this.lookedAt
    this.lookedAt += ms
    if (isConnected() && ms <= longestMs)
      for (const { key, online } of partners()) {
        const id = key.toString('hex')
        this.known.set(id, seen(this.of(key), clock.now(), Math.round(ms), online))
      }
    if (++this.looks % looksToWrite === 0) void this.write()
    this.timer = this.nextLook()
  }

  /** All that are listed; of others nothing is kept. */
  private write(): Promise<void> {
    this.writing = this.writing.then(async () => {
      const listed = new Set(this.options.partners().map(({ key }) => key.toString('hex')))
      try {
        await this.options.db.transaction(() => {
          for (const [id, presence] of this.known) {
            const key = Buffer.from(id, 'hex')
            if (listed.has(id)) this.table.put(key, encodePresence(presence))
            else this.table.remove(key)
          }
        })
      } catch (error) {
        // A full disk: what is known stays in memory, and is written with the next hour's.
        this.options.log.warn({ err: error }, 'when partners are on line could not be stored')
      }
      for (const id of this.known.keys()) if (!listed.has(id)) this.known.delete(id)
    })
    return this.writing
  }
}

export function encodePresence({ looked, there }: Presence): Buffer {
  const out = new Writer(rowBytes).u8(version).zero(3)
  for (let hour = 0; hour < weekHours; hour++) out.u32(looked[hour] ?? 0).u32(there[hour] ?? 0)
  return out.finish()
}

/** @throws KithError damaged */
export function decodePresence(bytes: Buffer): Presence {
  const from = new Reader(Buffer.from(bytes), 'hours of a partner')
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  from.zero(3)
  const looked: number[] = []
  const there: number[] = []
  for (let hour = 0; hour < weekHours; hour++) {
    looked.push(from.u32())
    there.push(from.u32())
  }
  from.end()
  if (there.some((ms, hour) => ms > (looked[hour] ?? 0)))
    throw new KithError('damaged', 'hours of a partner: it was there for longer than was looked')
  return { looked, there }
}
