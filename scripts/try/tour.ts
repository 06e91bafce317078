/** The tour: the whole story of kith, unattended, with every file compared at the end. */
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { seeded } from '../../lib/base/random.js'
import { differences, manifest } from './compare.js'
import { startNetwork, startOwner } from './network.js'
import { forceUnmount, kith } from './processes.js'

/** @param dir an empty directory, which is wiped and filled again on the way */
export async function tour(dir: string, state: string, say: (line: string) => void): Promise<void> {
  const home = join(state, 'owner')
  const phrase = join(state, 'phrase.txt')
  say('1. A private DHT, three partners, and you: five processes, four homes.')
  const network = await startNetwork(state)
  await startOwner(home, phrase, network)

  say(`2. kith mount ${dir}, and some files.`)
  await kith(['mount', dir], home)
  writeFiles(dir)

  say('3. kith snapshot')
  const first = await kith<{ name: string; files: number }>(['snapshot'], home)
  say(`   ${first.name}: ${first.files} files`)

  say("4. A letter is deleted by mistake, and copied back from today's snapshot.")
  const letter = join(dir, 'letters', 'first.txt')
  const text = readFileSync(letter, 'utf8')
  unlinkSync(letter)
  execFileSync('cp', ['-a', join(dir, '.snapshots', today(), 'letters', 'first.txt'), letter])
  if (readFileSync(letter, 'utf8') !== text) throw new Error('the letter that came back is another one')

  say('5. More work, another snapshot, and kith sync: every partner holds it.')
  appendFileSync(join(dir, 'journal.txt'), 'One more line.\n')
  copyFileSync(join(dir, 'photo.bin'), join(dir, 'photo-copy.bin'))
  const second = await kith<{ name: string; bytesNew: number }>(['snapshot'], home)
  say(`   ${second.name}: only ${second.bytesNew} new bytes, for the copy shares its chunks`)
  const synced = await kith<{ volumes: { partners: unknown[] }[] }>(['sync', '--timeout', '120'], home)
  const partners = synced.volumes[0]?.partners.length ?? 0
  if (partners !== network.partners.length) throw new Error(`${partners} partners hold the snapshot, not all`)
  const before = manifest(dir)

  say('6. The machine is lost: daemon killed, mount gone, home and directory wiped.')
  const { pid } = await kith<{ pid: number }>(['status'], home)
  process.kill(pid, 'SIGKILL')
  forceUnmount(dir)
  rmSync(home, { recursive: true })
  for (const name of readdirSync(dir)) rmSync(join(dir, name), { recursive: true })

  say('7. A new home, and nothing but the phrase: kith recover')
  const fresh = join(state, 'recovered')
  await kith(['recover', '--phrase-file', phrase, '--to', dir, '--bootstrap', network.bootstrap], fresh)
  await kith(['stop'], fresh)

  const found = differences(before, manifest(dir))
  for (const line of found.slice(0, 20)) say(`   ${line}`)
  if (found.length > 0) throw new Error(`${found.length} of ${before.size} files came back different`)
  say(`8. All ${before.size} files, folders and links are back: same bytes, modes, owners, times, links.`)
}

function today(): string {
  const now = new Date()
  const two = (n: number) => String(n).padStart(2, '0')
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`
}

function writeFiles(dir: string): void {
  const random = seeded(1)
  const bytes = (length: number) => {
    const out = Buffer.alloc(length)
    for (let at = 0; at + 4 <= length; at += 4) out.writeUInt32LE(random(), at)
    return out
  }
  mkdirSync(join(dir, 'letters'))
  writeFileSync(join(dir, 'letters', 'first.txt'), 'Dear friend,\nthis one must not get lost.\n')
  writeFileSync(join(dir, 'letters', 'grüße 🎈.txt'), 'Names may hold anything.\n')
  writeFileSync(join(dir, 'journal.txt'), 'A line.\n'.repeat(50_000))
  writeFileSync(join(dir, 'photo.bin'), bytes(5_000_000))
  writeFileSync(join(dir, 'empty'), '')
  mkdirSync(join(dir, 'a', 'deep', 'folder'), { recursive: true })
  for (let i = 0; i < 200; i++)
    writeFileSync(join(dir, 'a', 'deep', 'folder', `note-${i}`), bytes(random() % 4000))
  symlinkSync('letters/first.txt', join(dir, 'link'))
  linkSync(join(dir, 'journal.txt'), join(dir, 'a', 'the same journal'))
  writeFileSync(join(dir, 'script.sh'), '#!/bin/sh\necho hello\n')
  chmodSync(join(dir, 'script.sh'), 0o750)
}
