/** `kith stop`: ends the daemon, which is never started for that. */
import { KithError } from '../base/errors.js'
import { ControlClient } from '../daemon/control-client.js'
import type { Context } from './context.js'

export async function run(context: Context) {
  const client = await ControlClient.connect(context.home)
  if (!client) throw new KithError('noDaemon', `no daemon runs for ${context.home}`)
  const { pid } = await client.call('stop', {})
  await client.closed
  context.print({ pid }, () => `The daemon (process ${pid}) has ended. Mounted directories stay mounted.`)
}
