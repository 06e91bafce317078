/** Whether `kith browse` can be had here: its engine is an optional package over a library of the system. */
import { spawnSync } from 'node:child_process'

/** What is missing, in words for a skipped test; false when nothing is. */
export function browseLacks(): string | false {
  const script = "require('node:module').createRequire(process.argv[1])('fuse-native')"
  const { status } = spawnSync(process.execPath, ['-e', script, import.meta.filename])
  return status === 0 ? false : 'needs fuse-native and libfuse 2'
}
