/** Two states of a directory, compared: types, modes, owners, sizes, times to the nanosecond, contents, links. */
import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'

/** What is so of every path below `dir`, as text by path; names as latin1, so that all bytes count. */
export function manifest(dir: string): Map<string, string> {
  const found = new Map<string, string>()
  const links = new Map<bigint, string>()
  const walk = (path: Buffer, shown: string) => {
    for (const name of readdirSync(path, { encoding: 'buffer' }).sort(Buffer.compare)) {
      const child = Buffer.concat([path, Buffer.from('/'), name])
      const childShown = join(shown, name.toString('latin1'))
      const stat = lstatSync(child, { bigint: true })
      const facts = [`${stat.mode.toString(8)} ${stat.uid}:${stat.gid} ${stat.mtimeNs}`]
      if (stat.isSymbolicLink()) facts.push(`-> ${readlinkSync(child, 'latin1')}`)
      if (stat.isFile()) {
        facts.push(`${stat.size} ${createHash('sha256').update(readFileSync(child)).digest('hex')}`)
        const first = links.get(stat.ino)
        if (first !== undefined) facts.push(`same file as ${first}`)
        else if (stat.nlink > 1n) links.set(stat.ino, childShown)
      }
      found.set(childShown, facts.join(' '))
      if (stat.isDirectory()) walk(child, childShown)
    }
  }
  walk(Buffer.from(dir), '')
  return found
}

/** One line for each difference. */
export function differences(before: Map<string, string>, after: Map<string, string>): string[] {
  const lines: string[] = []
  for (const [path, facts] of before) {
    const now = after.get(path)
    if (now === undefined) lines.push(`missing: ${path}`)
    else if (now !== facts) lines.push(`differs: ${path}: ${facts} became ${now}`)
  }
  for (const path of after.keys()) if (!before.has(path)) lines.push(`was not there: ${path}`)
  return lines
}
