/** V8's heap, beyond what it does by itself. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/**
 * A full collection that moves all that lives together, so that every page that is not needed goes. By itself the heap shrinks
 * only after a long while in which little is allocated, and then by whole pages: what is left of much lies so thinly over them
 * that hardly one is free. Takes some ms for each MiB that lives, and nothing else runs meanwhile.
 */
export function compactHeap(): void {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  setFlagsFromString('--compact-on-every-full-gc')
  try {
    gc()
  } finally {
    setFlagsFromString('--no-compact-on-every-full-gc')
  }
}

/**
 * For the command line of a process that moves much data, as V8 takes it at the start alone: no full collection is begun below
 * so many MiB of old objects and of the memory that Buffers took since the last one. Messages and blocks are Buffers of half a MiB,
 * and a heap of 15 MiB was collected for every 6 that a partner took in; a larger heap is collected as ever.
 */
export const heapFlags: readonly string[] = ['--initial-old-space-size=64']

/** Threads that are started from now on begin as V8 has it: each has a heap, and would keep as much garbage. */
export function spareThreads(): void {
  setFlagsFromString('--initial-old-space-size=0')
}
