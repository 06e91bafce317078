/** By which names `.snapshots` offers the snapshots of a volume. */
import { localDay } from '../store/snapshot-info.js'
import type { SnapshotListing } from './types.js'

export interface OfferedName {
  name: string
  /** the snapshot that it means now */
  snapshot: SnapshotListing
}

/** In the order of a directory's listing, and by name. */
export interface Offers {
  names: OfferedName[]
  byName: Map<string, OfferedName>
}

/**
 * Exact instants, then each local day that has snapshots (its last one), then `latest`. In byte order of the names,
 * as directories are listed: a day sorts before the instants that begin with it, and letters after digits.
 */
export function offeredNames(snapshots: readonly SnapshotListing[]): Offers {
  const byName = new Map<string, SnapshotListing>()
  for (const snapshot of snapshots) {
    byName.set(localDay(snapshot.time), snapshot)
    byName.set('latest', snapshot)
  }
  for (const snapshot of snapshots) byName.set(snapshot.name, snapshot)
  const names = [...byName]
    .map(([name, snapshot]) => ({ name, snapshot }))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  return { names, byName: new Map(names.map((offer) => [offer.name, offer])) }
}
