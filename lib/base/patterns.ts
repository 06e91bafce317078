/** Patterns as in .gitignore. A path is relative, `/` between names, with a `/` at its end where it is a directory. */
import ignore from 'ignore'

/** The library remembers every path it was asked about: it is made anew after so many. */
const pathsRemembered = 20_000

export class Patterns {
  #asked = 0
  #matcher: ReturnType<Patterns['make']> | undefined

  constructor(readonly patterns: readonly string[]) {}

  /** Whether the path is one that the patterns name; so is all that is below a directory that they name. */
  matches(path: string): boolean {
    if (this.patterns.length === 0) return false
    if (++this.#asked % pathsRemembered === 0) this.#matcher = undefined
    return (this.#matcher ??= this.make()).ignores(path)
  }

  private make() {
    // Names may be anything, also dots only.
    return ignore.default({ ignorecase: false, allowRelativePaths: true }).add([...this.patterns])
  }
}
