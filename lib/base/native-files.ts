/** Where the build puts what is compiled from native/: dist/native, beside dist/lib. */
import { fileURLToPath } from 'node:url'

export function nativeFile(
  name:
    | 'kith-fuse'
    | 'kith-passthrough'
    | 'posix.node'
    | 'seal.node'
    | 'codes.node'
    | 'memory.node'
    | 'fastcdc.wasm',
): string {
  return fileURLToPath(new URL(`../../native/${name}`, import.meta.url))
}
