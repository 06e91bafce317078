/** An LMDB environment and its file, and a file that takes the place of another's. The only importer of lmdb. */
import { renameSync } from 'node:fs'
import { join } from 'node:path'
import { open, type RootDatabase } from 'lmdb'
import { syncDirectory, syncFile } from '../base/durable.js'
import { reached } from '../base/persistence.js'
import type { RawRange, RawTable } from './recent.js'

export type Environment = RootDatabase<Buffer, Buffer>

export interface EnvironmentStats {
  /** bytes */
  pageSize: number
  lastPageNumber: number
  /** of the last transaction that was committed */
  lastTxnId: number
  /** of the table of free pages: rows, and the pages of those that are larger than a page */
  free: { entryCount: number; overflowPages: number }
}

/** Opens or makes data.mdb and lock.mdb in a directory that is there. */
export function environment(dir: string, maxDbs: number): Environment {
  return open<Buffer, Buffer>({
    path: dir,
    noSubdir: false,
    maxDbs,
    overlappingSync: false,
    encoding: 'binary',
    keyEncoding: 'binary',
  })
}

export function statsOf(root: Environment): EnvironmentStats {
  return root.getStats() as EnvironmentStats
}

/** Opens the environment in `place`, whose file replaces the one in `dir`, durably. When it throws, nothing was replaced, or `dir` could not be synced. */
export function replaced(place: string, dir: string, maxDbs: number): Environment {
  const copy = join(place, 'data.mdb')
  syncFile(copy)
  const fresh = environment(place, maxDbs)
  try {
    reached('fileRename')
    renameSync(copy, join(dir, 'data.mdb'))
    syncDirectory(dir)
    return fresh
  } catch (error) {
    void fresh.close()
    throw error
  }
}

/** A table of the environment that there is now. */
export class EnvironmentTable implements RawTable {
  constructor(private table: RawTable) {}

  environmentIs(table: RawTable): void {
    this.table = table
  }

  get(key: Buffer): Buffer | undefined {
    return this.table.get(key)
  }

  doesExist(key: Buffer): boolean {
    return this.table.doesExist(key)
  }

  putSync(key: Buffer, value: Buffer): unknown {
    return this.table.putSync(key, value)
  }

  removeSync(key: Buffer): unknown {
    return this.table.removeSync(key)
  }

  clearSync(): unknown {
    return this.table.clearSync()
  }

  getRange(range: RawRange): Iterable<{ key: Buffer; value: Buffer }> {
    return this.table.getRange(range)
  }

  getKeys(range: RawRange): Iterable<Buffer> {
    return this.table.getKeys(range)
  }

  getStats(): object {
    return this.table.getStats()
  }
}
