import { readFileSync } from 'node:fs'

/** Resident kilobytes of this process that are mappings of the file, which is named by its real path. */
export function mappedKilobytes(file: string): number {
  let sum = 0
  let isFile = false
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isFile = line.endsWith(` ${file}`)
    else if (isFile) sum += Number(/^Rss: +(\d+) kB$/.exec(line)?.[1] ?? 0)
  }
  return sum
}
