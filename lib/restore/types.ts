/** What restore/ reads from, how it is told to behave, and what it answers. */
import { KithError, type ErrorCode } from '../base/errors.js'
import type { TreeReader } from '../store/tree-reader.js'
import type { Filter } from './filter.js'
import type { LeftOutOptions } from './left-out.js'

/** A snapshot's tree. Whatever it returns was verified against its name. */
export type TreeSource = Pick<TreeReader, 'list' | 'pieces' | 'chunk'>

/**
 * What to do where a name exists: `never` refuses before anything is written; `if-changed` leaves alone what has the
 * same type, size and mtime, and replaces the rest; `always` replaces. Directories are merged in all three, nothing that
 * the snapshot does not name is touched, and a directory is never replaced by a file.
 */
export type Overwrite = 'never' | 'if-changed' | 'always'

export interface RestoreProgress {
  /** names that are no directories, done so far; hard links count each time, as in Totals */
  files: number
  bytes: number
  totalFiles: number
  totalBytes: number
}

export interface RestoreOptions {
  /** `never` when absent */
  overwrite?: Overwrite
  progress?: (progress: RestoreProgress) => void
  signal?: AbortSignal
  /**
   * Also removes what the snapshot has not, below the target, but for what these rules leave out of snapshots; when all
   * else is done, and only when all of it succeeded. Goes with `if-changed` and `always`, for a directory, without a filter.
   */
  delete?: LeftOutOptions
  /** leaves a part of a directory out: see filter.ts */
  filter?: Filter
  /** files, groups of small files and directories worked on at once; 32 when absent. More helps where blocks come over a network. */
  parallel?: number
}

export interface RestoreResult {
  /** the directory or file that was written */
  path: string
  files: number
  bytes: number
  directories: number
  /** left alone because they were there already and the same (`if-changed`); counted in `files` too */
  skipped: number
  /** names that `delete` removed, and those that the snapshot has not and that stay all the same */
  removed: number
  stayed: number
  /** what could not be carried over here, though every byte was, each one line: owners, devices, ... */
  notes: string[]
}

export interface RestoreFailure {
  /** relative to the target, readable: see pathText */
  path: string
  code: ErrorCode
  message: string
}

/** Thrown when everything that could be restored was, and something could not. Its code is that of the first failure. */
export class RestoreIncomplete extends KithError {
  /** @param failures the first hundred of `failed` */
  constructor(
    readonly result: RestoreResult,
    readonly failures: RestoreFailure[],
    readonly failed: number,
  ) {
    const [first] = failures
    super(
      first?.code ?? 'internal',
      `${failed} of ${failed + result.files} files could not be restored to ${result.path}; ` +
        `the first: ${first?.path ?? ''}: ${first?.message ?? ''}`,
    )
    this.name = 'RestoreIncomplete'
  }
}
