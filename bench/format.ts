/** `npm run bench -- format`: what one core does of the work that every byte costs, in MB/s and against a plain copy. */
import { performance } from 'node:perf_hooks'
import { seeded } from '../lib/base/random.js'
import { Chunker } from '../lib/format/chunker.js'
import { blockName, chunkKey, openChunk, sealChunk } from '../lib/format/seal.js'
import { median } from './measure.js'

const blockBytes = 64 * 1024

/** Half noise, half text: zstd has something to do and something to give up on. */
function sample(bytes: number, compressible: boolean): Buffer {
  const random = seeded(1)
  const data = Buffer.alloc(bytes)
  for (let i = 0; i < bytes; i += 4)
    data.writeUInt32LE(compressible ? 0x20202020 + (random() & 0x0f0f0f0f) : random(), i)
  return data
}

export function benchFormat(rounds: number, say: (line: string) => void): void {
  const secret = Buffer.alloc(32, 1)
  const chunker = new Chunker(secret)
  const bytes = chunker.memory.length
  const rate = (work: () => void): number => {
    const seconds = Array.from({ length: rounds }, () => {
      const started = performance.now()
      work()
      return (performance.now() - started) / 1000
    })
    return bytes / 1e6 / median(seconds)
  }
  for (const compressible of [false, true]) {
    const data = sample(bytes, compressible)
    const blocks = Array.from({ length: bytes / blockBytes }, (_, i) =>
      data.subarray(i * blockBytes, (i + 1) * blockBytes),
    )
    const sealed = blocks.map((block) => sealChunk(chunkKey(secret, block), block))
    const copy = Buffer.alloc(bytes)
    data.copy(chunker.memory)
    say(`format, one core, ${compressible ? 'compressible' : 'incompressible'} bytes:`)
    const lines: [string, () => void][] = [
      ['copy', () => data.copy(copy)],
      ['cut (FastCDC)', () => chunker.cut(bytes, true)],
      ['chunk key', () => blocks.forEach((block) => chunkKey(secret, block))],
      ['key and seal', () => blocks.forEach((block) => sealChunk(chunkKey(secret, block), block))],
      ['block name', () => sealed.forEach((block) => blockName(block.bytes))],
      ['verify and open', () => sealed.forEach((block) => openChunk(block.ref, block.bytes))],
    ]
    for (const [label, work] of lines) say(`${label.padEnd(26)}${rate(work).toFixed(0).padStart(10)} MB/s`)
    say('')
  }
}
