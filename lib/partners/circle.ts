/**
 * Circles: groups of people who back each other up. A circle is a secret of 32 bytes that its members share; whoever
 * knows it is a member. From it derive the topic under which members find each other on the DHT, and the proof of
 * membership (membership.ts). The secret itself travels only in an invite (invite.ts) and in the owner's sealed state.
 */

export interface CircleInfo {
  /** hex of the circle's public id: hash('kith circle id', secret) */
  id: string
  name: string
  /** when this node created or joined it, ms since 1970 */
  since: number
  /** hex public key of the member whose invite was used; none for a circle created here */
  invitedBy?: string
}

/** What a recovery needs to be a member again; kept sealed in the head's owner state. */
export interface CircleSecret {
  name: string
  /** 32 bytes */
  secret: Buffer
}
