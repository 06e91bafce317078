/** `kith status [DIR]` */
import type { Status, VolumeStatus } from '../daemon/api.js'
import { spaceText } from './budget.js'
import { optionalDir, type Context } from './context.js'
import { excludedText } from './exclude.js'
import { placementText, repairText } from './placement.js'
import { age, localTime, plural, printable, size, table } from './output.js'
import type { AuditStatus } from '../daemon/api-state.js'
import { duration, presenceText } from './partner-state.js'

export async function run(context: Context, [dir]: (string | undefined)[]) {
  const status = await context.call('status', optionalDir(dir))
  context.print(status, () => text(status, context.clock.now()))
}

function text(status: Status, now: number): string {
  const parts = status.volumes.map((volume) => volumeText(volume, now))
  if (parts.length === 0) {
    parts.push(
      status.id === null
        ? 'No identity yet; start by: kith init'
        : 'Nothing protected yet; start by: kith mount DIR',
    )
  }
  const { vault, network } = status
  const circles = network.circles.length === 0 ? 'none' : network.circles.map(printable).join(', ')
  parts.push(
    [
      `Circles:  ${circles}`,
      `Network:  ${network.bootstrap.length === 0 ? 'public DHT' : `private DHT at ${network.bootstrap.join(', ')}`}${network.running ? '' : ' (not connected)'}`,
      ...(status.space && (status.space.bytesBudget !== null || status.space.bytesEvicted > 0)
        ? [`Blocks:   ${spaceText(status.space)}`]
        : []),
      ...(status.placement && status.placement.policy !== 'replica'
        ? [`Placement: ${status.placement.policy}, ${placementText(status.placement)}`]
        : []),
      ...(status.placement?.repair ? [repairText(status.placement.repair, 'Repairing: ')] : []),
      ...auditLines(status.audits),
      ...(status.awayUntil === null
        ? []
        : [`Away:     until ${localTime(status.awayUntil)}, as the partners were told`]),
      `For others: ${size(vault.bytesHeld)} of ${size(vault.bytesQuota)}, ${plural(vault.owners, 'owner')}`,
    ].join('\n'),
  )
  if (status.problems.length > 0) parts.push(problems(status.problems))
  return parts.join('\n\n')
}

function auditLines(audits: AuditStatus | null): string[] {
  if (audits === null || audits.caughtWithinMs === null) return []
  const { lost, confidence, caughtWithinMs, bytesLastDay, bytesPerDay } = audits
  const caught = `a partner that lost ${percent(lost)} is caught within ${duration(caughtWithinMs)} at ${percent(confidence)}`
  return [
    `Audits:   ${caught}; ${size(bytesLastDay)} with one partner in the last day, ${size(bytesPerDay)} on average at most`,
  ]
}

function percent(part: number): string {
  return `${Math.round(part * 100)}%`
}

function volumeText(volume: VolumeStatus, now: number): string {
  const last = volume.lastSnapshot
  const lines = [
    `${printable(volume.dir)}`,
    `  state:          ${volume.state}`,
    `  last snapshot:  ${last ? `${last.name} (${age(last.time, now)}), ${plural(last.files, 'file')}, ${size(last.bytes)}` : 'none yet'}`,
    `  waiting:        ${volume.bytesPending === 0 ? 'nothing' : size(volume.bytesPending)}`,
  ]
  if (volume.leftOut.length > 0)
    lines.push(`  left out:       ${volume.leftOut.map(printable).join(', ')} (other file systems)`)
  if (volume.sharedWith !== null) lines.push(`  shared with:    ${printable(volume.sharedWith)}`)
  const excluded = excludedText(volume.excluded)
  if (excluded) lines.push(`  excluded:       ${excluded}`)
  if (volume.partners.length === 0)
    lines.push('  partners:       none yet; form a circle and invite somebody, or join one')
  else lines.push(indent(partnersTable(volume, now)))
  if (volume.problems.length > 0) lines.push(indent(problems(volume.problems)))
  return lines.join('\n')
}

function partnersTable(volume: VolumeStatus, now: number): string {
  const rows = volume.partners.map((p) => [
    p.name,
    presenceText({ ...p, lastSeen: null }, now),
    size(p.bytesHeld),
    p.recoveryPoint === null ? 'nothing whole yet' : behind(p.recoveryPoint, now),
    p.bytesPending === 0 ? '-' : size(p.bytesPending),
    age(p.lastProof, now),
    p.faults.join('; '),
  ])
  return table(['PARTNER', '', 'HOLDS', 'AS OF', 'WAITING', 'PROVEN', ''], rows, [2])
}

/** The moment as of which the partner has everything. */
function behind(time: number, now: number): string {
  return now - time < 1000 ? 'now' : age(time, now)
}

function problems(list: string[]): string {
  return list.map((problem) => `! ${printable(problem)}`).join('\n')
}

function indent(text: string): string {
  return text.replace(/^/gm, '  ')
}
