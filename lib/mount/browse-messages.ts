/** What goes between the daemon and the process of a browse mount, as structured clones over its channel. */

/** To the process: where to mount, first of all; then answers; and the wish to end. */
export type ToBrowse =
  | { kind: 'mount'; mountpoint: string }
  | { kind: 'answer'; id: number; errno: number; body: Uint8Array }
  | { kind: 'end' }

export type FromBrowse =
  | { kind: 'mounted' }
  /** it cannot be mounted, and the process ends: `code` is an ErrorCode */
  | { kind: 'failed'; code: 'unsupported' | 'denied' | 'internal'; message: string }
  | { kind: 'ask'; id: number; type: number; payload: Uint8Array }
