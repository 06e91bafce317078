/**
 * What a volume leaves out of its snapshots: by patterns (of the volume's settings, and of `.kithignore` files, which hold
 * for their directory and all below it), in directories that a CACHEDIR.TAG says are caches, and by size.
 *
 * As in git: of all patterns that name a path the last one decides, those of a directory above before those further
 * down, the settings first; and what is below a directory that is left out is not looked at, so that nothing in it comes
 * back by `!`. A cache keeps its tag, so that it still is one after a restore. The volume's own root is never taken for one.
 */
import { constants, readSync } from 'node:fs'
import { isText, nameText } from '../base/path-text.js'
import { Patterns } from '../base/patterns.js'
import {
  close,
  openAt,
  statFd,
  statIfAny,
  type DirectoryEntry as Listed,
  type FileStat,
} from '../base/posix.js'
import { hash } from '../format/hash.js'
import { typeOf } from './entries.js'

/** What is set for a volume. */
export interface ExcludeSettings {
  /** as in .gitignore, from the volume's root on */
  patterns: readonly string[]
  /** whether CACHEDIR.TAG counts */
  caches: boolean
  /** bytes that a file may have at most; null: any */
  largerThan: number | null
}

/** What a name is left out for. */
export const leftOutReasons = ['pattern', 'cache', 'large'] as const
export type LeftOutReason = (typeof leftOutReasons)[number]

/** What a directory itself adds to the rules. */
export interface OwnRules {
  /** bytes of its .kithignore */
  text: Buffer | undefined
  cache: boolean
  /** it has a .kithignore that is not applied, and why */
  problem: string | undefined
}

export const rulesName = Buffer.from('.kithignore')
export const cacheTagName = Buffer.from('CACHEDIR.TAG')
/** https://bford.info/cachedir/ */
const cacheSignature = Buffer.from('Signature: 8a477f597d28d172789f06886806bc55')
export const maxRulesBytes = 1024 * 1024

export const noExcludes: ExcludeSettings = { patterns: [], caches: false, largerThan: null }

/** A directory of the tree, with all rules that hold for the names in it. */
export class RuledDirectory {
  private constructor(
    private readonly settings: ExcludeSettings,
    /** from the root, with a slash at its end unless empty */
    private readonly base: string,
    private readonly patterns: Patterns,
    readonly cache: boolean,
  ) {}

  static root(settings: ExcludeSettings, own: OwnRules): RuledDirectory {
    const patterns = [...settings.patterns, ...(own.text ? placed(own.text, '') : [])]
    return new RuledDirectory(settings, '', new Patterns(patterns), false)
  }

  child(name: Buffer, own: OwnRules): RuledDirectory {
    const base = `${this.base}${textOf(name)}/`
    const more = own.text ? placed(own.text, base) : []
    const patterns = more.length === 0 ? this.patterns : new Patterns([...this.patterns.patterns, ...more])
    return new RuledDirectory(this.settings, base, patterns, own.cache)
  }

  leavesOut(name: Buffer, stat: FileStat): LeftOutReason | undefined {
    if (this.cache && !name.equals(cacheTagName)) return 'cache'
    const type = typeOf(stat)
    if (this.patterns.patterns.length > 0) {
      const path = `${this.base}${textOf(name)}${type === 'directory' ? '/' : ''}`
      if (this.patterns.matches(path)) return 'pattern'
    }
    const { largerThan } = this.settings
    return type === 'file' && largerThan !== null && stat.size > largerThan ? 'large' : undefined
  }
}

/** What the directory behind the descriptor adds; `listed` spares looking for the names. */
export function readOwnRules(fd: number, caches: boolean, listed?: readonly Listed[]): OwnRules {
  const has = (name: Buffer) =>
    listed ? listed.some((entry) => entry.name.equals(name)) : statIfAny(fd, name) !== undefined
  const own: OwnRules = { text: undefined, cache: false, problem: undefined }
  if (has(rulesName)) {
    const text = readFile(fd, rulesName, maxRulesBytes + 1)
    if (text && text.length > maxRulesBytes) own.problem = 'it has more than 1 MiB and is not applied'
    else own.text = text
  }
  if (caches && has(cacheTagName)) {
    const tag = readFile(fd, cacheTagName, cacheSignature.length)
    own.cache = tag !== undefined && isCacheTag(tag)
  }
  return own
}

/** Whether a CACHEDIR.TAG that begins like this is one. */
export function isCacheTag(begin: Buffer): boolean {
  return begin.subarray(0, cacheSignature.length).equals(cacheSignature)
}

/** The first bytes of a plain file; undefined where it is none, or cannot be read. */
function readFile(dirFd: number, name: Buffer, bytes: number): Buffer | undefined {
  let fd: number | undefined
  try {
    fd = openAt(dirFd, name, constants.O_RDONLY | constants.O_NONBLOCK)
    const stat = statFd(fd)
    if (typeOf(stat) !== 'file') return undefined
    const buffer = Buffer.alloc(Math.min(bytes, stat.size))
    let at = 0
    for (let got = 1; got > 0 && at < buffer.length; at += got) {
      got = readSync(fd, buffer, at, buffer.length - at, at)
    }
    return buffer.subarray(0, at)
  } catch {
    return undefined
  } finally {
    if (fd !== undefined) close(fd)
  }
}

/** Which rules these are, for comparing them with those of the last snapshot. */
export function rulesHash(text: Buffer): Buffer {
  return hash('kith ignore rules', text)
}

/** Whether any pattern says more than a name: what it matches depends on where a directory stands. */
export function dependOnPlace(patterns: readonly string[]): boolean {
  return patterns.some((pattern) => isAnchored(pattern.replace(/^!/, '')))
}

/**
 * The patterns of a .kithignore in `base`, as patterns of the root. They are asked about paths below `base` only, so that
 * any character may stand for one of its own that would mean something in a pattern.
 */
export function placed(text: Buffer, base: string): string[] {
  const lines = text
    .toString()
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
  const patterns = lines.filter((line) => line.trim() !== '' && !line.startsWith('#'))
  if (base === '') return patterns
  const above = `/${base.replace(/[^\p{L}\p{N}/_-]/gu, (character) => '?'.repeat(character.length))}`
  return patterns.map((pattern) => {
    const not = pattern.startsWith('!') ? '!' : ''
    const body = pattern.slice(not.length).replace(/^\\([!#])/, '$1')
    return `${not}${above}${isAnchored(body) ? body.replace(/^\//, '') : `**/${body}`}`
  })
}

/** A slash anywhere but at the end. */
function isAnchored(pattern: string): boolean {
  return /\/./.test(pattern.trimEnd())
}

function textOf(name: Buffer): string {
  return isText(name) ? name.toString() : nameText(name)
}
