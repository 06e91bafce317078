/** How facts look to a person: sizes, ages, aligned tables. Names from outside lose their control characters. */

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
