/** `kith ls SNAPSHOT[:PATH]` */
import type { EntryState } from '../daemon/api.js'
import { optionalDir, snapshotPart, type Context } from './context.js'
import { localTime, modeText, shownPath, typeLetters } from './output.js'

export async function run(
  context: Context,
  [what = '']: string[],
  { dir, long = false, recursive = false }: { dir?: string; long?: boolean; recursive?: boolean },
) {
  const params = { ...optionalDir(dir), ...snapshotPart(what), recursive }
  await context.list('ls', params, (item) => (long ? longLine(item) : shownPath(item)))
}

function longLine(item: EntryState & { path: string; raw?: string | undefined }): string {
  const { type, mode, uid, gid, size, mtime, target, busy } = item
  return [
    `${typeLetters[type]}${modeText(mode)}`,
    `${uid}`.padStart(5),
    `${gid}`.padStart(5),
    `${size}`.padStart(12),
    localTime(mtime),
    shownPath(item) +
      (target === undefined ? '' : ` -> ${shownPath({ path: target })}`) +
      (busy ? ' (busy)' : ''),
  ].join(' ')
}
