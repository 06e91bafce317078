/** How facts look to a person: sizes, ages, aligned tables. Names from outside lose their control characters. */
import { KithError } from '../base/errors.js'
import type { Item } from '../daemon/api.js'

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** `12.3 MiB` */
export function size(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}

/**
 * `1.5G`, `100 MiB`, `4096`: bytes, in powers of 1024.
 * @throws KithError usage
 */
export function parseSize(text: string): number {
  const [, digits, letter] = /^(\d+(?:\.\d+)?) ?(?:([KMGTP])(?:i?B)?|B)?$/i.exec(text.trim()) ?? []
  const bytes = Math.floor(Number(digits) * 1024 ** ' KMGTP'.indexOf(letter?.toUpperCase() ?? ' '))
  if (bytes > 0 && bytes <= 2 ** 52) return bytes
  throw new KithError('usage', `bad size '${text}'; write it like 500M, 20G or 1.5T`)
}

const steps: [seconds: number, name: string][] = [
  [86_400, 'day'],
  [3600, 'hour'],
  [60, 'minute'],
  [1, 'second'],
]

/** `3 hours ago`; `never` for null. */
export function age(time: number | null, now: number): string {
  if (time === null) return 'never'
  const seconds = Math.floor((now - time) / 1000)
  if (seconds < 0) return 'in the future (check the clock)'
  for (const [length, name] of steps) {
    if (seconds >= length) {
      const n = Math.floor(seconds / length)
      return `${n} ${name}${n === 1 ? '' : 's'} ago`
    }
  }
  return 'just now'
}

/** Control and direction characters would let a name from outside draw on the terminal. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
}

/** What a snapshot is marked with: `pinned, tag, tag`. */
export function marksOf({ pinned, tags }: { pinned: boolean; tags: readonly string[] }): string {
  return [...(pinned ? ['pinned'] : []), ...tags].join(', ')
}

/** `1 file`, `2 files` */
export function plural(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`
}

/** Columns aligned, two spaces between; numbers and sizes to the right where `right` says so. */
export function table(head: string[], rows: string[][], right: number[] = []): string {
  const all = [head, ...rows].map((row) => row.map(printable))
  const widths = head.map((_, column) => Math.max(...all.map((row) => [...(row[column] ?? '')].length)))
  const line = (row: string[]) =>
    row
      .map((cell, column) => {
        const gap = ' '.repeat((widths[column] ?? 0) - [...cell].length)
        return right.includes(column) ? gap + cell : cell + gap
      })
      .join('  ')
      .trimEnd()
  return all.map(line).join('\n')
}

/** As `ls` shows the type of a file. */
export const typeLetters = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  socket: 's',
  character: 'c',
  block: 'b',
} as const

/** Nine letters, like `rwxr-sr-x`. */
export function modeText(mode: number): string {
  const letters = [...'rwxrwxrwx'].map((letter, i) => ((mode >> (8 - i)) & 1 ? letter : '-'))
  const special = (bit: number, at: number, letter: string) => {
    if (mode & bit) letters[at] = letters[at] === 'x' ? letter : letter.toUpperCase()
  }
  special(0o4000, 2, 's')
  special(0o2000, 5, 's')
  special(0o1000, 8, 't')
  return letters.join('')
}

/** `2024-06-01 09:30`, in local time. */
export function localTime(time: number): string {
  const date = new Date(time)
  const two = (value: number) => String(value).padStart(2, '0')
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`
}

/**
 * A path on one line, with `\xNN` for each byte of what could draw on the terminal, and of a backslash: unlike `printable`, different for
 * different paths. Paths that are no text (`raw`) come like this from the daemon.
 */
export function shownPath({ path, raw }: { path: string; raw?: string | undefined }): string {
  if (raw !== undefined) return path
  return path.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\\]/gu, (character) =>
    [...Buffer.from(character)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join(''),
  )
}

/** A name that differs, with its mark. */
export function differenceLine({ change, before, after, ...place }: Item<'diff'>): string {
  const isDirectory = (after ?? before)?.type === 'directory'
  const busy = after?.busy ? ' (busy)' : ''
  return `${change} ${shownPath(place)}${isDirectory ? '/' : ''}${busy}`
}
