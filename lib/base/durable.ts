/** Small files, and the names of files, that are on the disk when it is said. */
import { chmodSync, closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { reached } from './persistence.js'

/** Replaces `file` (0600) by `bytes`: whole or not at all after a crash, and durable when it returns. */
export function writeDurably(file: string, bytes: Buffer): void {
  const beside = `${file}.new`
  rmSync(beside, { force: true })
  const fd = openSync(beside, 'wx', 0o600)
  try {
    chmodSync(beside, 0o600)
    reached('fileWrite')
    writeSync(fd, bytes)
    reached('fileSync')
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  reached('fileRename')
  renameSync(beside, file)
  syncDirectory(join(file, '..'))
}

/** Makes durable which names the directory holds. */
export function syncDirectory(path: string): void {
  const dir = openSync(path, 'r')
  try {
    reached('folderSync')
    fsyncSync(dir)
  } finally {
    closeSync(dir)
  }
}

/** The file's bytes are on the disk when it returns. */
export function syncFile(file: string): void {
  const fd = openSync(file, 'r')
  try {
    reached('fileSync')
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
