/**
 * Memory for what is large and short-lived, as the elements and shards of stripes: a page that is touched for the first time costs
 * as much as sealing what goes into it, so pages are used again (native/memory).
 *
 * A Buffer from here is one as any other, to be kept and passed on; its memory is used again when the collector finds that nobody has
 * it. What nobody has stays here, 288 MiB at most, until restSlabs() is called: no more than was in use at once
 * before, as memory comes from here first.
 */
import { createRequire } from 'node:module'
import { nativeFile } from './native-files.js'

interface Addon {
  slabs(count: number, bytes: number): Buffer[]
  rest(): void
}

const addon = createRequire(import.meta.url)(nativeFile('memory.node')) as Addon

/** What is smaller is the allocator's own matter: it uses it again by itself. */
const leastBytes = 64 * 1024

/** New Buffers with any contents, of 1 byte to 64 MiB each. Throws ENOMEM. */
export function slabs(count: number, bytes: number): Buffer[] {
  if (bytes < leastBytes) return Array.from({ length: count }, () => Buffer.allocUnsafeSlow(bytes))
  return addon.slabs(count, bytes)
}

/** Nothing of that kind is made for now: gives back to the system what nobody has, and then what nobody has any longer. */
export function restSlabs(): void {
  addon.rest()
}
