/** Why a candidate was chosen, or not, in words: what `kith partners --why` shows. */
import type { Sketch } from '../format/sketch.js'
import { coverageBy, hoursCovered, type Scored, systemOf } from './score.js'
import { answered } from './sketch.js'
import { entrusted, isNewcomer } from './trust.js'
import { type Candidate, type Choice, type SelectionPolicy, weekHours } from './types.js'

export interface Context {
  readonly set: readonly Scored[]
  readonly sketch: Sketch
  readonly shares: Float64Array
  readonly policy: SelectionPolicy
  readonly current: readonly string[]
  /** the bounds on newcomers and circles had to give way */
  readonly isRelaxed: boolean
}

/** Why it cannot serve; undefined: it can. */
export function unfitWhy(candidate: Candidate, policy: SelectionPolicy): string | undefined {
  const { space, bandwidth, belief, holds, record } = candidate
  if (record.reneged > record.kept / 4)
    return `broke ${counted(record.reneged, 'agreement')} and kept ${record.kept}`
  if (belief <= 0 && holds) return 'did not have what it claimed to have'
  if (space < policy.needs || space === 0) return 'offers less space than is needed'
  if (bandwidth !== null && bandwidth < policy.leastBandwidth)
    return 'takes in less a second than is asked for'
  return undefined
}

export function choiceOf(member: Scored, context: Context): Choice {
  const { candidate } = member
  const { sketch, policy } = context
  const found = candidate.holds === null ? null : answered(sketch, candidate.holds)
  const why = [
    ...(candidate.invited ? ['invited by you'] : []),
    overlapWhy(member, context, found),
    ...distanceWhy(candidate),
    ...hoursWhy(member, context),
    ...differenceWhy(member, context),
    recordWhy(candidate),
    ...(context.isRelaxed && !candidate.invited ? ['there are too few others to choose from'] : []),
    ...(context.current.includes(candidate.id) && !candidate.invited
      ? [`stays: an exchange would have to gain more than ${percent(policy.churn)}`]
      : []),
  ]
  const share = found && found.share
  return {
    id: candidate.id,
    share,
    error: found && found.error,
    entrusted: entrusted(candidate, policy),
    why,
  }
}

export function passedOverWhy(candidate: Candidate, { set, policy }: Context): string {
  const unfit = unfitWhy(candidate, policy)
  if (unfit !== undefined) return unfit
  const those = (is: (other: Candidate) => boolean) => set.filter((member) => is(member.candidate)).length
  const { prefix, circles } = candidate
  if (prefix !== null && those((other) => other.prefix === prefix) >= policy.perPrefix)
    return `${prefix} has its share of the partners already`
  if (circles.some((circle) => those((other) => other.circles.includes(circle)) >= policy.perCircle))
    return 'its circle has its share of the partners already'
  if (isNewcomer(candidate) && those(isNewcomer) >= policy.newcomers)
    return 'new, and there is a newcomer already'
  return 'adds less than those who were chosen'
}

function overlapWhy(member: Scored, { set, shares }: Context, found: Found | null): string {
  const { placed } = member.candidate
  if (placed !== undefined) return `holds ${percent(placed)} of your data`
  if (!found) return 'what it has of your data already is not known'
  if (found.share === 0) return 'has none of your data yet'
  const without = set.filter((other) => other !== member)
  const covers = coverageBy(shares)
  const alone = covers(set)() - covers(without)()
  const only = alone >= 0.005 ? `, ${percent(alone)} as the only one` : ''
  const believed = member.candidate.belief < 1 ? ', by its own account' : ''
  return `has ${percent(found.share)} (± ${percent(found.error)}) of your data already${only}${believed}`
}

interface Found {
  share: number
  error: number
}

function distanceWhy({ distance, roundTrip }: Candidate): string[] {
  if (distance === null) return []
  const time =
    roundTrip === null ? '' : `, ${roundTrip < 10 ? roundTrip.toFixed(1) : Math.round(roundTrip)} ms`
  return [
    distance === 'near' ? `near${time}: fast to restore from` : `far${time}: safe from what happens here`,
  ]
}

function hoursWhy(member: Scored, { set }: Context): string[] {
  const { hours } = member.candidate
  if (hours === null) return []
  const daily = Math.round((24 * hours.reduce((sum, surely) => sum + surely, 0)) / weekHours)
  const without = set.filter((other) => other !== member)
  const gained = 24 * (hoursCovered(set)() - hoursCovered(without)())
  const only = gained >= 1 ? `, ${Math.round(gained)} h of them when no other is` : ''
  return [`on line about ${daily} h a day${only}`]
}

function differenceWhy(member: Scored, { set }: Context): string[] {
  const others = set.filter((other) => other !== member).map(({ candidate }) => candidate)
  if (others.length === 0) return []
  const { region } = member.candidate
  const system = systemOf(member.candidate)
  const parts: string[] = []
  if (region !== null && others.every((other) => other.region !== region)) parts.push(`in ${region}`)
  if (system !== null && others.every((other) => systemOf(other) !== system)) parts.push(`with ${system}`)
  return parts.length > 0 ? [`the only one ${parts.join(', and ')}`] : []
}

function recordWhy(candidate: Candidate): string {
  const { kept, reneged, days } = candidate.record
  const known = `known for ${counted(Math.floor(days), 'day')}`
  if (isNewcomer(candidate)) return `new: entrusted with little at first, ${known}`
  const broken = reneged > 0 ? `, broke ${reneged}` : ''
  return kept + reneged > 0 ? `kept ${counted(kept, 'agreement')}${broken}, ${known}` : known
}

function percent(share: number): string {
  return `${Math.round(100 * share)} %`
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}
