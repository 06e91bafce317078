/**
 * Shell patterns for single names: `*` any characters, `?` one, `[a-z]` one of these, `[!a-z]` one of all others, `\`
 * takes the next character as it is. A leading dot is matched as any character. Time is bounded by the product of the
 * lengths, whatever the pattern.
 */
import { KithError } from '../base/errors.js'

type Part = 'any' | ((character: string) => boolean)

/** @throws KithError usage when the pattern is none */
export function compileGlob(pattern: string): (name: string) => boolean {
  if (pattern === '' || pattern.includes('/')) {
    throw new KithError('usage', 'the pattern is for names, without /; say e.g. *.txt')
  }
  const parts = parseGlob([...pattern])
  return (name) => matches(parts, [...name])
}

function parseGlob(characters: readonly string[]): Part[] {
  const parts: Part[] = []
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at] as string
    const end = character === '[' ? endOfSet(characters, at) : -1
    if (character === '*') {
      if (parts.at(-1) !== 'any') parts.push('any')
    } else if (character === '?') {
      parts.push(() => true)
    } else if (end > 0) {
      parts.push(parseSet(characters.slice(at + 1, end)))
      at = end
    } else {
      if (character === '\\' && at + 1 < characters.length) at++
      const literal = characters[at]
      parts.push((given) => given === literal)
    }
  }
  return parts
}

/** Where the set that begins at `at` ends, or -1: then the bracket stands for itself. The first may be a bracket. */
function endOfSet(characters: readonly string[], at: number): number {
  const first = at + (characters[at + 1] === '!' || characters[at + 1] === '^' ? 2 : 1)
  return characters.indexOf(']', first + 1)
}

function parseSet(given: readonly string[]): Part {
  const inverted = given[0] === '!' || given[0] === '^'
  const members = inverted ? given.slice(1) : given
  const ranges: [number, number][] = []
  for (let at = 0; at < members.length; at++) {
    const from = codeOf(members[at])
    const isRange = members[at + 1] === '-' && at + 2 < members.length
    ranges.push([from, isRange ? codeOf(members[at + 2]) : from])
    if (isRange) at += 2
  }
  return (character) => {
    const code = codeOf(character)
    return ranges.some(([from, to]) => code >= from && code <= to) !== inverted
  }
}

function codeOf(character: string | undefined): number {
  return character?.codePointAt(0) ?? 0
}

/** Only the last `*` need be tried again: what an earlier one could take more of, the later one takes as well. */
function matches(parts: readonly Part[], name: readonly string[]): boolean {
  let part = 0
  let at = 0
  let star = -1
  let starAt = 0
  while (at < name.length) {
    const next = parts[part]
    if (next === 'any') {
      star = part++
      starAt = at
    } else if (next?.(name[at] as string)) {
      part++
      at++
    } else if (star >= 0) {
      part = star + 1
      at = ++starAt
    } else {
      return false
    }
  }
  if (parts[part] === 'any') part++
  return part === parts.length
}
