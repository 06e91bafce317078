/** A store with two snapshots to be damaged, and what a check says of it, in short. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { seeded } from '../../lib/base/random.js'
import type { Entry, FileEntry } from '../../lib/format/node.js'
import type { StoreFindings } from '../../lib/store/check.js'
import { seededBytes } from './bytes.js'
import { change, inoOf, protect, type Fixture } from './store.js'

const made = seededBytes(seeded(1), 6_000_000)
const content = (seed: number, bytes: number) => made.map((byte) => byte ^ seed).subarray(0, bytes)

/** Two snapshots: `a/big`, `a/same`, `b/list` in both, `a/late` in the second. */
export async function twoSnapshots(t: Test): Promise<Fixture> {
  const fixture = await protect(t)
  const { dir, rootFd } = fixture
  mkdirSync(join(dir, 'a'))
  mkdirSync(join(dir, 'b'))
  writeFileSync(join(dir, 'a', 'big'), content(1, 700_000))
  writeFileSync(join(dir, 'a', 'same'), content(2, 300_000))
  writeFileSync(join(dir, 'b', 'list'), content(3, 6_000_000))
  await fixture.volume.snapshot(rootFd)
  writeFileSync(join(dir, 'a', 'late'), content(4, 300_000))
  await fixture.volume.recordChanges([change('names', 0n, { parent: inoOf(rootFd, 'a') })])
  await fixture.volume.snapshot(rootFd)
  return fixture
}

export async function entryAt({ volume, store }: Fixture, ...path: string[]): Promise<Entry> {
  const reader = volume.reader(store.blocks)
  return reader.resolve(
    await reader.snapshot('latest'),
    path.map((name) => Buffer.from(name)),
  )
}

export async function firstChunk(fixture: Fixture, ...path: string[]): Promise<Buffer> {
  const file = (await entryAt(fixture, ...path)) as FileEntry
  for await (const { extent } of fixture.volume.reader(fixture.store.blocks).pieces(file))
    if (extent.kind === 'chunk') return extent.chunk.name
  throw new Error('no chunk')
}

/** What a check says, in short. */
export function said({ volumes: [volume], bad, unused, index }: StoreFindings) {
  return {
    wounds: [...bad.values()],
    hurt: [...(volume?.hurt.values() ?? [])].map(({ path }) => path).sort(),
    snapshots: volume?.hurtSnapshots.length,
    problems: [...index.problems, ...(volume?.problems ?? [])],
    unused,
  }
}
