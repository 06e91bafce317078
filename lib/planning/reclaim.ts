/**
 * When what is held for an owner that is never heard of any more may go. Silence is counted like the time of partners
 * (partner-state.ts): only while this node ran and had a network, and no announced absence was due.
 *
 *     kept --- the grace that the owner was promised ---> warned --- the rest of the term ---> expired
 *
 * The term is that grace and the notice that we promised, and for friends `leastMs` at least: who lost a house may need a while
 * to come back. One sign of life, and it begins anew.
 */
export interface Silence {
  readonly silentMs: number
  /** seconds that the owner may be out of reach, by its agreement */
  readonly grace: number
  /** seconds that we keep what we hold after an end */
  readonly notice: number
  readonly leastMs: number
}

export type OwnerVerdict =
  { readonly kind: 'kept' | 'expired' } | { readonly kind: 'warned'; readonly leftMs: number }

export function verdictOn({ silentMs, grace, notice, leastMs }: Silence): OwnerVerdict {
  const leftMs = Math.max((grace + notice) * 1000, leastMs) - silentMs
  if (leftMs <= 0) return { kind: 'expired' }
  return silentMs < grace * 1000 ? { kind: 'kept' } : { kind: 'warned', leftMs }
}
