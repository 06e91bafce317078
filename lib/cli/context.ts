/**
 * What every command is given: the global options, the clock, the way to the daemon, and the two ways to print.
 * Facts go to stdout (text, or one JSON value with --json); notes and progress go to stderr.
 */
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { systemClock, type Clock } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Item, MethodName, Params, ProgressNote, Result } from '../daemon/api.js'
import { ControlClient, type CallOptions } from '../daemon/control-client.js'
import { Progress } from './progress.js'

export interface GlobalOptions {
  home?: string
  bootstrap?: string
  json?: boolean
}

export class Context {
  readonly home: string
  readonly json: boolean
  readonly bootstrap: string[] | undefined
  readonly clock: Clock = systemClock

  constructor(options: GlobalOptions) {
    this.home = resolve(options.home ?? process.env.KITH_HOME ?? join(homedir(), '.kith'))
    this.json = options.json ?? false
    this.bootstrap = options.bootstrap === undefined ? undefined : parseBootstrap(options.bootstrap)
  }

  /** Prints the facts of a command: `value` with --json, else the text. */
  print(value: unknown, text: () => string): void {
    const out = this.json ? JSON.stringify(value) : text()
    process.stdout.write(out.endsWith('\n') ? out : `${out}\n`)
  }

  /** A line for the person in front, on stderr; nothing with --json. */
  note(line: string): void {
    if (!this.json) process.stderr.write(`${line}\n`)
  }

  /** Writes to stdout, as fast as it is read. */
  write(out: string | Buffer): Promise<void> {
    return new Promise((resolve) => process.stdout.write(out, () => resolve()))
  }

  /** Prints what a listing method sends, as it comes: lines of text, or with --json one array, an item a line. */
  async list<M extends MethodName>(
    method: M,
    params: Params<M>,
    line: (item: Item<M>) => string,
  ): Promise<Result<M>> {
    let first = true
    const result = await this.stream(method, params, async (items) => {
      const lines = items.map((item) => (this.json ? JSON.stringify(item) : line(item)))
      if (lines.length === 0) return
      if (this.json) await this.write(`${first ? '[' : ',\n'}${lines.join(',\n')}`)
      else await this.write(`${lines.join('\n')}\n`)
      first = false
    })
    if (this.json) await this.write(first ? '[]\n' : ']\n')
    return result
  }

  /** A request to a listing method; `take` is given the items, some at a time. */
  stream<M extends MethodName>(
    method: M,
    params: Params<M>,
    take: (items: Item<M>[]) => Promise<void>,
  ): Promise<Result<M>> {
    // The daemon has parsed them by the schema of this method.
    return this.call(method, params, { onItems: (items) => take(items as Item<M>[]) })
  }

  /** One request to the daemon, which is started when none runs; draws progress on a terminal. */
  async call<M extends MethodName>(
    method: M,
    params: Params<M>,
    options: Pick<CallOptions, 'onItems'> = {},
  ): Promise<Result<M>> {
    const client = await this.#client()
    const progress = new Progress(!this.json && process.stderr.isTTY === true)
    const cancelled = new Promise<never>((_, reject) => {
      process.on('SIGINT', () => {
        // The phrase is told once: whoever asked for it must hear it.
        if (method !== 'init') reject(new KithError('cancelled', 'cancelled'))
      })
    })
    try {
      const onProgress = (note: ProgressNote) => progress.show(note)
      const result = client.call(method, params, { onProgress, ...options })
      return await Promise.race([result, cancelled])
    } finally {
      progress.end()
      process.removeAllListeners('SIGINT')
      client.close()
    }
  }

  async #client(): Promise<ControlClient> {
    const client = await ControlClient.connectOrStart(this.home, this.bootstrap)
    if (this.bootstrap) {
      const { restartNeeded } = await client.call('configure', { bootstrap: this.bootstrap })
      if (restartNeeded) {
        this.note(
          'kith: the new --bootstrap is kept, and used when the daemon starts next: kith stop, then any command',
        )
      }
    }
    return client
  }
}

/** `HOST:PORT,HOST:PORT`; the word `public` goes back to the public DHT. */
function parseBootstrap(value: string): string[] {
  if (value === 'public') return []
  const list = value.split(',').map((item) => item.trim())
  const bad = list.find((item) => !/^([^\s:]+|\[[0-9a-fA-F:.]+\]):\d{1,5}$/.test(item))
  if (bad !== undefined) {
    throw new KithError(
      'usage',
      `--bootstrap wants HOST:PORT[,HOST:PORT...] or the word public, not '${bad}'`,
    )
  }
  return list
}

/** The parameters of a command whose DIR may be left out. */
export function optionalDir(dir: string | undefined): { dir?: string } {
  return dir === undefined ? {} : { dir: resolve(dir) }
}

/** `SNAPSHOT[:PATH]` */
export function snapshotPart(given: string): { snapshot: string; path?: string } {
  const colon = given.indexOf(':')
  if (colon < 0) return { snapshot: given }
  return { snapshot: given.slice(0, colon), path: given.slice(colon + 1) }
}
