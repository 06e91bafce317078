/**
 * Blocks of chunks from the live file: where it still has the bytes that a snapshot's file had at that place, cutting and
 * sealing them again gives the same block. Both are compared, the chunk's key and the block's name, so that a wrong
 * byte is never taken.
 */
import { constants, readSync } from 'node:fs'
import { close, errnoCode, openAt, openDirectoryAt } from '../base/posix.js'
import { parseNameText } from '../base/path-text.js'
import type { FileEntry } from '../format/node.js'
import { chunkKey, sealChunk } from '../format/seal.js'
import type { Nodes } from './nodes.js'
import { walkPieces } from './tree-walk.js'

/** @param path as tree-check.ts tells it. @param take is given name and sealed bytes */
export async function fromLiveFile(
  { nodes, convergence }: { nodes: Nodes; convergence: Buffer },
  rootFd: number,
  { path, entry }: { path: string; entry: FileEntry },
  wanted: (name: Buffer) => boolean,
  take: (name: Buffer, bytes: Buffer) => Promise<void>,
): Promise<void> {
  const fd = openBelow(rootFd, path)
  if (fd === undefined) return
  try {
    for await (const { offset, extent } of walkPieces(nodes, entry)) {
      if (extent.kind !== 'chunk' || !wanted(extent.chunk.name)) continue
      const { chunk } = extent
      const plain = Buffer.alloc(chunk.plainBytes)
      if (readSync(fd, plain, 0, plain.length, offset) !== plain.length) continue
      if (!chunkKey(convergence, plain).equals(chunk.key)) continue
      const { ref, bytes } = sealChunk(chunk.key, plain)
      if (ref.name.equals(chunk.name)) await take(chunk.name, bytes)
    }
  } catch (error) {
    if (errnoCode(error) === undefined) throw error
  } finally {
    close(fd)
  }
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
