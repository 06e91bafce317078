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
