/**
 * The one error class of kith. A `code` names the cause; the command line turns it into an exit code by the table
 * below, which man/kith.1 documents. Errno values appear only at the edge to the kernel.
 */

/** Exit codes of the `kith` command by cause. Numbers are an interface: never reuse one. */
export const exitCodes = {
  internal: 1,
  usage: 2,
  notFound: 3,
  exists: 4,
  denied: 5,
  noDaemon: 6,
  noPartners: 7,
  noSpace: 8,
  damaged: 9,
  timeout: 10,
  badPhrase: 11,
  busy: 12,
  unsupported: 13,
  protocol: 14,
  cancelled: 15,
} as const

export type ErrorCode = keyof typeof exitCodes

export class KithError extends Error {
  readonly code: ErrorCode

  /** @param message one line: what is wrong, and what to do about it */
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'KithError'
    this.code = code
  }
}

/** The error as KithError: system errors with a known errno get the matching code, all others are `internal`. */
export function asKithError(error: unknown): KithError {
  if (error instanceof KithError) return error
  const message = error instanceof Error ? error.message : String(error)
  const errno = error instanceof Error && 'code' in error ? String(error.code) : ''
  const code = errnoCodes[errno] ?? 'internal'
  return new KithError(code, message, { cause: error })
}

const errnoCodes: Record<string, ErrorCode | undefined> = {
  ENOENT: 'notFound',
  ENOTDIR: 'notFound',
  EEXIST: 'exists',
  EACCES: 'denied',
  EPERM: 'denied',
  EROFS: 'denied',
  ENOSPC: 'noSpace',
  EDQUOT: 'noSpace',
}

/** Checks what only a bug of ours could break. For what the world may do wrong, throw a KithError instead. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`)
}
