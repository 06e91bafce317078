/**
 * Blocks of chunks from the live file: where it still has the bytes that a snapshot's file had at that place, cutting and
 * sealing them again gives the same block. Both are compared, the chunk's key and the block's name, so that a wrong
 * byte is never taken.
 *
 * A pack comes back only whole: when a snapshot still names each of its files, and each of them is, under one of its names,
 * as it was. One that changed since takes its neighbours' older states with it; those that did not are stored again by
 * the next snapshot.
 */
import { constants, readSync } from 'node:fs'
import { close, errnoCode, openAt, openDirectoryAt, statFd } from '../base/posix.js'
import { parseNameText } from '../base/path-text.js'
import type { FileEntry } from '../format/node.js'
import { type ChunkRef, chunkKey, sealChunk } from '../format/seal.js'
import type { Nodes } from './nodes.js'
import type { Met } from './tree-check.js'
import { walkPieces } from './tree-walk.js'

/** @param path as tree-check.ts tells it. @param take is given name and sealed bytes */
export async function fromLiveFile(
  { nodes, convergence }: { nodes: Nodes; convergence: Buffer },
  rootFd: number,
  { path, entry }: { path: string; entry: FileEntry },
  wanted: (name: Buffer) => boolean,
  take: Take,
): Promise<void> {
  const fd = openBelow(rootFd, path)
  if (fd === undefined) return
  try {
    for await (const { offset, extent } of walkPieces(nodes, entry)) {
      if (extent.kind !== 'chunk' || !wanted(extent.chunk.name)) continue
      const plain = Buffer.alloc(extent.chunk.plainBytes)
      if (readSync(fd, plain, 0, plain.length, offset) !== plain.length) continue
      await takeIfSame(convergence, extent.chunk, plain, take)
    }
  } catch (error) {
    if (errnoCode(error) === undefined) throw error
  } finally {
    close(fd)
  }
}

type Take = (name: Buffer, bytes: Buffer) => Promise<void>

async function takeIfSame(convergence: Buffer, chunk: ChunkRef, plain: Buffer, take: Take): Promise<void> {
  if (!chunkKey(convergence, plain).equals(chunk.key)) return
  const { ref, bytes } = sealChunk(chunk.key, plain)
  if (ref.name.equals(chunk.name)) await take(chunk.name, bytes)
}

interface Found {
  path: string
  entry: FileEntry
}

interface Pack {
  chunk: ChunkRef
  /** by offset: the files that are these bytes */
  files: Map<number, Found[]>
}

/** Packs that are wanted, from the files of theirs that are among those met. */
export async function packsFromLiveFiles(
  convergence: Buffer,
  rootFd: number,
  met: readonly Met[],
  wanted: (name: Buffer) => boolean,
  take: Take,
): Promise<void> {
  const packs = new Map<string, Pack>()
  for (const { path, entry } of met) {
    if (entry.type !== 'file' || entry.content.kind !== 'extents') continue
    const [extent] = entry.content.extents
    if (extent?.kind !== 'part' || !wanted(extent.chunk.name)) continue
    const id = extent.chunk.name.toString('latin1')
    const pack: Pack = packs.get(id) ?? { chunk: extent.chunk, files: new Map() }
    packs.set(id, pack)
    pack.files.set(extent.offset, [...(pack.files.get(extent.offset) ?? []), { path, entry }])
  }
  for (const { chunk, files } of packs.values()) {
    const plain = Buffer.alloc(chunk.plainBytes)
    let at = 0
    for (let bytes = -1; at < plain.length && bytes !== 0; at += bytes)
      bytes = readOne(rootFd, files.get(at) ?? [], plain.subarray(at))
    if (at === plain.length) await takeIfSame(convergence, chunk, plain, take)
  }
}

/** Reads the first of the files that can be had, best one that was not written since. @returns its bytes, 0 for none */
function readOne(rootFd: number, files: readonly Found[], into: Buffer): number {
  let other = 0
  for (const { path, entry } of files) {
    const fd = openBelow(rootFd, path)
    if (fd === undefined) continue
    try {
      const { size, mtimeNs } = statFd(fd)
      const untouched = mtimeNs === entry.mtimeNs
      if (size !== entry.size || (other > 0 && !untouched)) continue
      if (readSync(fd, into, 0, size, 0) !== size) continue
      if (untouched) return size
      other = size
    } catch (error) {
      if (errnoCode(error) === undefined) throw error
    } finally {
      close(fd)
    }
  }
  return other
}

/** Follows no links, and waits for no FIFO. */
function openBelow(rootFd: number, path: string): number | undefined {
  const names = path.split('/').map((text) => parseNameText(text) ?? Buffer.from(text))
  const last = names.pop() ?? Buffer.alloc(0)
  const opened: number[] = []
  try {
    let dir = rootFd
    for (const name of names) {
      dir = openDirectoryAt(dir, name)
      opened.push(dir)
    }
    return openAt(dir, last, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (errnoCode(error) === undefined) throw error
    return undefined
  } finally {
    for (const fd of opened) close(fd)
  }
}
