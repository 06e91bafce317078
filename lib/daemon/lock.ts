/**
 * One daemon per home: it holds an flock on kithd.lock as long as it lives, and the file holds its process id for
 * people. The kernel lets go of the lock when the process ends, however it ends.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, statSync, writeSync } from 'node:fs'
import { KithError } from '../base/errors.js'
import { flockExclusive } from '../base/posix.js'
import type { Home } from './home.js'

export class HomeLock {
  #fd: number
  #file: string

  private constructor(fd: number, file: string) {
    this.#fd = fd
    this.#file = file
  }

  /** Throws `busy` when another daemon serves this home. */
  static take(home: Home): HomeLock {
    const file = home.file('kithd.lock')
    const fd = openSync(file, 'a+', 0o600)
    try {
      if (!flockExclusive(fd)) {
        const pid = readFileSync(file, 'utf8').trim().slice(0, 20)
        const who = /^\d+$/.test(pid) ? ` (process ${pid})` : ''
        throw new KithError('busy', `a daemon${who} serves ${home.dir} already; end it by: kith stop`)
      }
      ftruncateSync(fd)
      writeSync(fd, `${process.pid}\n`)
    } catch (error) {
      closeSync(fd)
      throw error
    }
    return new HomeLock(fd, file)
  }

  /** False when the home was removed, or another lock file put in this one's place: then it guards nothing any more. */
  holds(): boolean {
    const there = statSync(this.#file, { throwIfNoEntry: false })
    const { dev, ino } = fstatSync(this.#fd)
    return there?.dev === dev && there.ino === ino
  }

  release(): void {
    closeSync(this.#fd)
  }
}
