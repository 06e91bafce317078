/** `kith recover --phrase-file FILE --to DIR`. The phrase is read from a file or standard input, never from arguments. */
import { closeSync, openSync, readSync } from 'node:fs'
import { resolve } from 'node:path'
import { KithError } from '../base/errors.js'
import type { OverwriteMode } from '../daemon/api.js'
import type { Context } from './context.js'
import { plural, printable, size } from './output.js'

const maxPhraseBytes = 4096

export async function run(
  context: Context,
  _args: string[],
  options: { phraseFile: string; to: string; overwrite: OverwriteMode },
) {
  const phrase = readPhrase(options.phraseFile)
  const result = await context.call('recover', {
    phrase,
    to: resolve(options.to),
    overwrite: options.overwrite,
  })
  context.print(result, () => {
    const lines = result.volumes.map(
      (v) => `${v.to}: ${plural(v.files, 'file')}, ${size(v.bytes)} as of ${v.snapshot}`,
    )
    for (const fault of result.faults) lines.push(`! ${printable(fault)}`)
    lines.push(`To protect it again: kith mount ${result.volumes[0]?.to ?? 'DIR'}`)
    return lines.join('\n')
  })
}

function readPhrase(file: string): string {
  const fd = file === '-' ? 0 : open(resolve(file))
  try {
    const bytes = Buffer.alloc(maxPhraseBytes + 1)
    let length = 0
    for (let n = -1; n !== 0 && length < bytes.length; length += n)
      n = readSync(fd, bytes, length, bytes.length - length, null)
    if (length > maxPhraseBytes)
      throw new KithError('badPhrase', `${file} is too long to be a recovery phrase`)
    return bytes.toString('utf8', 0, length)
  } finally {
    if (fd !== 0) closeSync(fd)
  }
}

function open(file: string): number {
  try {
    return openSync(file, 'r')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      throw new KithError(
        'notFound',
        `there is no file ${file}; give --phrase-file the file with the 24 words`,
      )
    }
    throw error
  }
}
