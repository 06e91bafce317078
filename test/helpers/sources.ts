/** The project's own files, for tests of the repository itself. */
import { readdirSync, readFileSync, existsSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../../..', import.meta.url))

/** Paths below the root of the files in `folder` whose names end in one of `endings`, sorted. */
export function sources(folder: string, ...endings: string[]): string[] {
  const dir = join(root, folder)
  if (!existsSync(dir)) return []
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && endings.some((ending) => entry.name.endsWith(ending)))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort()
}

export function text(path: string): string {
  return readFileSync(join(root, path), 'utf8')
}
