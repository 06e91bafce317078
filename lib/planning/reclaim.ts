/**
 * When what is held for an owner that is never heard of any more may go. Silence is counted like the time of partners
 * (partner-state.ts): only while this node ran and had a network, and no announced absence was due.
 *
 *     kept --- the grace that the owner was promised ---> warned --- the rest of the term ---> expired
 *
 * The term is that grace and the notice that we promised, and for friends `leastMs` at least: who lost a house may need a while
 * to come back. One sign of life, and it begins anew.
 *
 * Other partners of the owner are asked when they saw it last: while one says that it did within the term, it lives, and only we
 * lost each other. Their word may be false, so the term is put off by no more than once itself.
 */
export interface Silence {
  readonly silentMs: number
  /** seconds that the owner may be out of reach, by its agreement */
  readonly grace: number
  /** seconds that we keep what we hold after an end */
  readonly notice: number
  readonly leastMs: number
  /** ms since another partner of the owner saw it on line, by its word; undefined: none said so */
  readonly elsewhereMs?: number | undefined
}

export type OwnerVerdict =
  { readonly kind: 'kept' | 'expired' } | { readonly kind: 'warned'; readonly leftMs: number }

export function verdictOn({ silentMs, grace, notice, leastMs, elsewhereMs }: Silence): OwnerVerdict {
  const term = Math.max((grace + notice) * 1000, leastMs)
  const byOthers = Math.min(term - (elsewhereMs ?? term), 2 * term - silentMs)
  const leftMs = Math.max(term - silentMs, byOthers)
  if (leftMs <= 0) return { kind: 'expired' }
  return silentMs < grace * 1000 ? { kind: 'kept' } : { kind: 'warned', leftMs }
}
