/** `unmount --decommission`: what would go, and its going. */
import type { Params, Result } from './api.js'
import type { Services } from './services.js'
import { partnersOf } from './status.js'

export async function decommissionPlan(
  services: Services,
  { dir }: Params<'decommissionPlan'>,
): Promise<Result<'decommissionPlan'>> {
  const volume = await services.volumes.find(dir)
  return {
    dir: volume.dir,
    snapshots: volume.stored.snapshots().length,
    bytesHere: services.store.blocks.bytes,
    partners: partnersOf(services, volume),
  }
}

/**
 * The volume goes here first, so that nothing offers its blocks again, and then at the partners: with the last volume
 * everything of ours is released, else what belongs to this one.
 */
export async function decommission(
  services: Services,
  params: Params<'decommission'>,
): Promise<Result<'decommission'>> {
  const { volumes, partners } = services
  const volume = await volumes.find(params.dir)
  const { dir } = volume
  const held = new Map(partners.list().map(({ id, bytesHeld }) => [id, bytesHeld]))
  const nothing = { stillOpen: [], holders: [] }
  const open = volume.isWanted ? await volume.unmount() : nothing
  const last = volumes.list().length === 1
  const { id } = volume.stored
  const blocks = last ? [] : services.store.blockNames(id)
  await volumes.remove(volume)
  const results = await partners.release(last ? 'all' : { volume: id, blocks })
  const rows = (released: boolean) =>
    results
      .filter((result) => result.released === released)
      .map(({ id, name }) => ({ id, name, bytes: held.get(id) ?? 0 }))
  return { dir, ...open, released: rows(true), waiting: rows(false) }
}
