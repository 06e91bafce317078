/** `kith init`: identity and volume keys; the phrase is shown once, or written to a new file. */
import { closeSync, fsyncSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs'
import { resolve } from 'node:path'
import { KithError } from '../base/errors.js'
import type { Context } from './context.js'

/** More than 24 words of at most 8 letters need. */
const reservedBytes = 512

export async function run(context: Context, _args: string[], options: { phraseOut?: string; name?: string }) {
  const params = options.name === undefined ? {} : { name: options.name }
  if (options.phraseOut === undefined) {
    const result = await context.call('init', params)
    context.print(result, () => shown(result.phrase, result.id))
    return
  }
  const file = resolve(options.phraseOut)
  const fd = create(file)
  let kept = false
  try {
    const { phrase, ...result } = await context.call('init', params)
    ftruncateSync(fd, writeSync(fd, `${phrase}\n`, 0))
    fsyncSync(fd)
    kept = true
    context.print({ ...result, phraseFile: file }, () => written(file, result.id))
  } finally {
    closeSync(fd)
    if (!kept) rmSync(file, { force: true })
  }
}

/** The file is there before the identity is made: a phrase that cannot be kept must not come to be. */
function create(file: string): number {
  let fd
  try {
    fd = openSync(file, 'wx', 0o600)
    // Takes the room now, so that a full disk is noticed before there is a phrase.
    writeSync(fd, Buffer.alloc(reservedBytes, ' '))
    fsyncSync(fd)
    return fd
  } catch (error) {
    if (fd !== undefined) {
      closeSync(fd)
      rmSync(file, { force: true })
    }
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') {
      throw new KithError('exists', `${file} exists already; give --phrase-out a new file`)
    }
    throw error
  }
}

function shown(phrase: string, id: string): string {
  const words = phrase.split(' ')
  const rows: string[] = []
  for (let at = 0; at < words.length; at += 6) {
    const row = words
      .slice(at, at + 6)
      .map((word, i) => `${String(at + i + 1).padStart(2)} ${word.padEnd(9)}`)
    rows.push(`  ${row.join(' ').trimEnd()}`)
  }
  return [
    `This node is ${id}.`,
    '',
    'Your recovery phrase:',
    '',
    ...rows,
    '',
    'Write it down on paper, now: it is not shown again and kept nowhere. With these words alone you get everything',
    'back on a new machine. Whoever has them can read everything; without them nobody can, and nobody can help you.',
  ].join('\n')
}

function written(file: string, id: string): string {
  return [
    `This node is ${id}.`,
    `The recovery phrase is in ${file}. Write it down on paper or move the file to a safe place off this machine:`,
    'it is kept nowhere else, and with it alone you get everything back on a new machine.',
  ].join('\n')
}
