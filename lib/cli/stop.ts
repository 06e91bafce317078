/** `kith stop`: ends the daemon, which is never started for that. */
import { readFileSync } from 'node:fs'
import { KithError } from '../base/errors.js'
import { ControlClient } from '../daemon/control-client.js'
import type { Context } from './context.js'
import { stopCommand, unitIn } from './service.js'

export async function run(context: Context) {
  const client = await ControlClient.connect(context.home)
  if (!client) throw new KithError('noDaemon', `no daemon runs for ${context.home}`)
  const { pid } = await client.call('stop', {})
  const unit = unitIn(cgroupsOf(pid))
  await client.closed
  context.print({ pid }, () => {
    const ended = `The daemon (process ${pid}) has ended. Mounted directories stay mounted.`
    return unit ? `${ended}\nsystemd starts it again; to end it for good: ${stopCommand(unit)}` : ended
  })
}

function cgroupsOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cgroup`, 'latin1')
  } catch {
    return ''
  }
}
