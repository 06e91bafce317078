/** Agreements as the settings and the control interface have them; lib/partners/agreements.ts makes them. */
import { parseWeek, weekBytes, weekText } from '../format/week.js'
import type { PactInfo, PactSide } from '../partners/agreements.js'
import type { Policy } from '../partners/negotiation.js'
import type { PartnerInfo as Partner } from '../partners/partners.js'
import type { PoolSettings } from '../partners/pool.js'
import { triesMost } from '../planning/partner-state.js'
import type { AgreementInfo, Params, PartnerInfo, Result } from './api.js'
import type { Settings } from './config.js'
import type { Services } from './services.js'

const daySeconds = 86_400
const hourSeconds = 3600

/**
 * What this node offers and wants in agreements. The commitment is for strangers: between members of a circle restores are
 * honoured at once.
 */
export function policyOf(settings: Readonly<Settings>): Omit<Policy, 'needs'> {
  const { vaultQuotaBytes, partnerQuotaBytes = vaultQuotaBytes, wantBytes, onlineHours } = settings
  return {
    terms: {
      holds: Math.min(partnerQuotaBytes, vaultQuotaBytes),
      hours: onlineHours === undefined ? Buffer.alloc(weekBytes) : parseWeek(onlineHours),
      bandwidth: 0,
      audit: Math.round(settings.auditHours * hourSeconds),
      grace: settings.graceDays * daySeconds,
      commitment:
        settings.commitmentDays === 0
          ? 0
          : Math.max(settings.commitmentDays, settings.graceDays + judgedDays(settings)) * daySeconds,
      notice: settings.noticeDays * daySeconds,
    },
    wants: wantBytes ?? Number.MAX_SAFE_INTEGER,
    periodMs: (settings.agreementDays ?? 0) * daySeconds * 1000,
  }
}

/**
 * Days from when somebody keeps nothing until its grace begins: as many audits as that takes, and one. A commitment that ends
 * before the grace does would let it have its own back meanwhile (docs/simulations.md).
 */
function judgedDays({ auditHours }: Readonly<Settings>): number {
  return Math.ceil((triesMost * auditHours) / 24) + 1
}

/** What is wanted of the open pool. */
export function poolOf({ openPool, poolPartners, region = '' }: Readonly<Settings>): PoolSettings {
  return { open: openPool, partners: poolPartners, region }
}

export function partnerInfo({ trouble, bytesPending: _, agreement, ...rest }: Partner): PartnerInfo {
  return { ...rest, faults: trouble, agreement: agreement && agreementInfo(agreement) }
}

function agreementInfo({ standing, ours, theirs, ...rest }: PactInfo): AgreementInfo {
  const state = standing === 'active' ? 'active' : standing === 'expired' ? 'expired' : 'ended'
  return { state, ...rest, ours: sideInfo(ours), theirs: sideInfo(theirs) }
}

function sideInfo({
  holds,
  hours,
  bandwidth,
  audit,
  grace,
  commitment,
  notice,
}: PactSide): AgreementInfo['ours'] {
  return {
    holds,
    hours: weekText(hours),
    bandwidth,
    auditHours: audit / hourSeconds,
    graceDays: grace / daySeconds,
    commitmentDays: commitment / daySeconds,
    noticeDays: notice / daySeconds,
  }
}

/** How much this node lends. Takes effect at once, and goes to the partners. */
export function offer(services: Services, { bytes, each, want, open }: Params<'offer'>): Result<'offer'> {
  const { config, vault, partners } = services
  config.set({
    ...(bytes !== undefined && { vaultQuotaBytes: bytes }),
    ...(each !== undefined && { partnerQuotaBytes: each ?? undefined }),
    ...(want !== undefined && { wantBytes: want ?? undefined }),
    ...(open !== undefined && { openPool: open }),
  })
  const { settings } = config
  vault.quotaBytes = settings.vaultQuotaBytes
  const isChanged = [bytes, each, want, open].some((value) => value !== undefined)
  if (isChanged) partners.policyChanged()
  return {
    bytes: settings.vaultQuotaBytes,
    each: settings.partnerQuotaBytes ?? null,
    want: settings.wantBytes ?? null,
    open: settings.openPool,
    held: vault.owners().reduce((sum, owner) => sum + owner.bytes, 0),
  }
}

/** Sets and tells how many partners are wanted, and how the search in the open pool stands. */
export function seek({ config, partners }: Services, { partners: wanted }: Params<'seek'>): Result<'seek'> {
  if (wanted !== undefined) {
    config.set({ poolPartners: wanted })
    partners.policyChanged()
  }
  const { have, met, found, isOffered } = partners.pool()
  return { wanted: config.settings.poolPartners, have, met, found, offered: isOffered }
}
