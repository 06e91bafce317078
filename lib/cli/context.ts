/**
 * What every command is given: the global options, the clock, the way to the daemon, and the two ways to print.
 * Facts go to stdout (text, or one JSON value with --json); notes and progress go to stderr.
 */
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { systemClock, type Clock } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { MethodName, Params, Result } from '../daemon/api.js'
import { ControlClient } from '../daemon/control-client.js'
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

  /** One request to the daemon, which is started when none runs; draws progress on a terminal. */
  async call<M extends MethodName>(method: M, params: Params<M>): Promise<Result<M>> {
    const client = await this.#client()
    const progress = new Progress(!this.json && process.stderr.isTTY === true)
    const cancelled = new Promise<never>((_, reject) => {
      process.on('SIGINT', () => {
        // The phrase is told once: whoever asked for it must hear it.
        if (method !== 'init') reject(new KithError('cancelled', 'cancelled'))
      })
    })
    try {
      const result = client.call(method, params, { onProgress: (note) => progress.show(note) })
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
