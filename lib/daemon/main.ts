/**
 * The process that the command line starts in the background: the daemon with its log on stderr, which is kithd.log.
 * Tells on the pipe `--ready-fd` how the start went, one JSON line, and closes it (control-client.ts reads it).
 */
import { closeSync, writeSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { asKithError, exitCodes } from '../base/errors.js'
import { runDaemon } from './run.js'

const { values } = parseArgs({
  options: {
    home: { type: 'string' },
    bootstrap: { type: 'string' },
    'ready-fd': { type: 'string' },
  },
})

let readyFd = values['ready-fd'] === undefined ? undefined : Number(values['ready-fd'])

function tell(message: object): void {
  if (readyFd === undefined) return
  try {
    writeSync(readyFd, `${JSON.stringify(message)}\n`)
    closeSync(readyFd)
  } catch {
    // Who started us is gone; the daemon serves others all the same.
  }
  readyFd = undefined
}

try {
  await runDaemon({
    home: values.home ?? '',
    bootstrap: values.bootstrap?.split(',').filter((address) => address !== ''),
    wait: false,
    onReady: () => tell({ ready: true }),
  })
  process.exit(0)
} catch (error) {
  const known = asKithError(error)
  tell({ error: { code: known.code, message: known.message } })
  process.exit(exitCodes[known.code])
}
