import t from 'tap'
import type { Test } from 'tap'
import { asKithError, type KithError } from '../../lib/base/errors.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { blockName } from '../../lib/format/seal.js'
import { Fetcher } from '../../lib/partners/fetch.js'
import { PlacedReader } from '../../lib/partners/placed-reader.js'
import { head } from '../helpers/backup.js'
import { lend, openPlacing, owner, partnerKey } from '../helpers/placing.js'

t.setTimeout(120_000)

const all = [0, 1, 2, 3, 4]

interface Fault {
  partner: Buffer
  kind: string
  shard: Buffer
}

/** What a partner gives instead of its shard. */
type Gives = (partner: number, shard: Buffer) => Buffer | undefined

const flip = (bytes: Buffer) =>
  Buffer.from(bytes.map((byte, i) => (i === bytes.length >> 1 ? byte ^ 0x10 : byte)))

t.test('wrong shards', async (t) => {
  const { at, names, shards } = await placed(t)
  let gives: Gives = (_, shard) => shard
  await lend(t, at, shards, (i, shard) => gives(i, shard))

  /** Reads all, as after a start. @returns what was found at whom, and how many were refused */
  const read = async (t: Test, by: Gives): Promise<{ faults: Fault[]; refused: KithError[] }> => {
    gives = by
    const faults: Fault[] = []
    const refused: KithError[] = []
    const { peers, clock } = at
    const reader = new PlacedReader({
      ...{ identity: owner, stripes: at.placing.stripes, clock, patienceMs: 0 },
      fetcher: new Fetcher({ peers, clock, log: silentLog() }),
      onFault: (partner, kind, shard) => faults.push({ partner, kind, shard }),
    })
    for (const name of names) {
      const bytes = await reader.get(name).catch((error: unknown) => void refused.push(asKithError(error)))
      if (bytes) t.ok(blockName(bytes).equals(name), 'byte by byte')
    }
    return { faults, refused }
  }

  const liars = [1, 2]
  const kinds: Record<string, (partner: number, shard: Buffer) => Buffer | undefined> = {
    flipped: (_, shard) => flip(shard),
    cut: (_, shard) => shard.subarray(0, -1),
    'of another stripe': (i, shard) => shards.get(i)?.find((other) => !other.equals(shard)),
    'of another partner': () => shards.get(0)?.[0],
  }
  for (const [kind, lie] of Object.entries(kinds))
    await t.test(`${kind}: an erasure, and against who gave it`, async (t) => {
      const { faults, refused } = await read(t, (i, shard) => (liars.includes(i) ? lie(i, shard) : shard))
      t.same(refused, [])
      t.ok(faults.length > 0)
      for (const { partner, kind, shard } of faults) {
        const i = liars.find((one) => partnerKey(one).equals(partner)) ?? -1
        t.equal(kind, 'wrong')
        t.ok(
          shards.get(i)?.some((bytes) => blockName(bytes).equals(shard)),
          'whose, and which',
        )
      }
    })

  await t.test('too few whole ones: a clear refusal, at once, and no wrong byte', async (t) => {
    const { faults, refused } = await read(t, (i, shard) => (i < 3 ? flip(shard) : shard))
    t.ok(refused.length > 0)
    const message = /any 3 of 5 parts of this data are needed, and the partners that took 3/
    for (const error of refused) t.match(error, { code: 'damaged', message })
    t.ok(faults.length >= 3)
  })
})

/** Two stripes of 3+2, and the shards of each partner. */
async function placed(t: Test) {
  const at = await openPlacing(t)
  await at.settle()
  const names: Buffer[] = []
  const random = seeded(31)
  for (const n of [1, 2]) {
    names.push(...(await at.chunks(random, 300_000, 200_000)))
    at.store.newest.splice(0, 1, head(owner, n))
    await at.settle()
  }
  const shards = new Map<number, Buffer[]>()
  for (const i of all) {
    const view = at.placing.placement.view(partnerKey(i))
    for (const name of at.placing.stripes.pending(partnerKey(i), 9)) {
      const bytes = await view.get(name)
      if (bytes) shards.set(i, [...(shards.get(i) ?? []), bytes])
    }
  }
  await at.acknowledge(...all)
  return { at, names, shards }
}
