/** `repair`: the store, with help of partners and of the live files; the vault. */
import type { Params, Result } from './api.js'
import { resultOf, sources, vaultOf, watched } from './check.js'
import type { Job } from './control-server.js'
import type { Services } from './services.js'

export async function repair(
  services: Services,
  { dryRun }: Params<'repair'>,
  job: Job,
): Promise<Result<'repair'>> {
  const { store, vault, volumes, partners } = services
  const { before, after, healed, rows, heads, marked } = await store.repair({
    ...sources(services),
    ...watched(job),
    dryRun,
    live: (id) => volumes.list().find(({ stored }) => stored.id.equals(id))?.liveRoot,
    acknowledged: (id) => partners.acknowledgedHead(id),
  })
  const everything = () => true
  const heldBefore = await vaultOf(services, everything, job)
  const { dropped } = dryRun ? { dropped: 0 } : await vault.repair(job.signal)
  const heldAfter = dropped > 0 ? await vaultOf(services, undefined, job) : heldBefore
  partners.wake()
  return {
    dryRun,
    before: { ...resultOf(before), vault: heldBefore },
    healed,
    rows,
    heads,
    marked,
    dropped,
    after: { ...resultOf(after), vault: heldAfter },
  }
}
