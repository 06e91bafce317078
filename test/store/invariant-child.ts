/**
 * Writes files that keep an invariant at every instant. A file is blocks of 4 KiB, each filled with a number; one round writes the
 * next number into all of them, from the first to the last. So at any instant the numbers never grow along the file, and
 * differ by one at most: whoever read blocks of different instants as one finds a later number behind an earlier one.
 *     node invariant-child.js DIR SEED      says `name ino round` after each round, and goes on until it is killed
 */
import { fstatSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { seeded } from '../../lib/base/random.js'
import { invariantFiles, numbersBlock } from '../helpers/invariant.js'

const [dir = '', seed = '1'] = process.argv.slice(2)
const next = seeded(Number(seed))
const files = invariantFiles.map(({ name, blocks }) => ({
  name,
  blocks,
  fd: openSync(join(dir, name), 'r+'),
}))

for (let round = 1; ; round++) {
  for (const { name, blocks, fd } of files) {
    const block = numbersBlock(round)
    for (let i = 0; i < blocks; i++) writeSync(fd, block, 0, block.length, i * block.length)
    writeSync(1, `${name} ${fstatSync(fd, { bigint: true }).ino} ${round}\n`)
  }
  // Now and then there is a moment in which all of them rest.
  if (next() % 2 === 0) await pause(next() % 60)
}
