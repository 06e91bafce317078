/**
 * What the change log of a mount says, as plain data. The records of one inode are a set, not a sequence: a record says
 * "look there", and what is true now is what the files say.
 */

export type ChangeKind = 'data' | 'truncate' | 'attributes' | 'names' | 'open' | 'close'

export interface Change {
  /**
   * data: bytes [offset, offset + length) of `ino` were written, or made a hole.
   * truncate: `ino` was cut or grown; everything from `offset` on changed.
   * attributes: mode, owner, times or xattrs of `ino` changed.
   * names: the entry of directory `parent` that names `ino` came, went or was renamed.
   * open: `ino` may change from now until its close without further records (and may have changed already).
   * close: a writing handle of `ino` was closed: the whole file counts as changed.
   */
  kind: ChangeKind
  ino: bigint
  /** the directory, for names; else 0 */
  parent: bigint
  offset: number
  length: number
}
