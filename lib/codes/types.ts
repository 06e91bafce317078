/**
 * What an erasure code does for a stripe: of `data` elements of equal length it makes `parity` further ones, and gives the
 * data back from any sufficient part of all. Elements are numbered: 0 to data - 1 are the data itself (the codes are
 * systematic: what is whole is read without decoding), then the parity. Element i goes to a partner of its own.
 *
 * Every code works byte by byte: bytes a to b of any element depend on bytes a to b of the others alone. So a part of a
 * lost element is made from the same part of others.
 */

export type CodeName = 'reed-solomon' | 'parity' | 'tornado'

export interface Code {
  readonly name: CodeName
  /** data elements, m */
  readonly data: number
  /** parity elements, k */
  readonly parity: number
  /** So many elements suffice, whichever they are; by Tornado nearly always (its head says how nearly). */
  readonly needed: number
  /** The parity elements of `data` elements of equal length. Off the event loop: none may change until it has ended. */
  encode(data: readonly Buffer[]): Promise<Buffer[]>
  /**
   * All data elements, those given as they were, from what is at hand: data + parity places, undefined where an element
   * is missing. Throws KithError `damaged` when it does not suffice. What is given is trusted: verify it before.
   */
  decode(elements: readonly (Buffer | undefined)[]): Promise<Buffer[]>
  /** The same for any elements, by their numbers: so a lost shard is made again. */
  make(elements: readonly (Buffer | undefined)[], wanted: readonly number[]): Promise<Buffer[]>
}
