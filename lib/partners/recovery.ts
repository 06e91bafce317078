/**
 * Recovery: from the identity alone to the newest heads. Whoever holds data of an owner announces itself under the
 * owner's rendezvous topic; we look that up, connect to all who are there, and ask each for our heads. Each head is
 * verified, and the one with the highest sequence wins, per volume: a partner can hold back or fail, but it can neither
 * forge a head nor, against one honest partner, pass an old one for the newest.
 *
 * Each also gives back the list of all partners that it was given to keep (fellows.ts). By the newest of those that verify the
 * others are dialled at their addresses, so that one partner that is found suffices, whatever the DHT says.
 *
 * How long it waits: until every holder that was found has answered or failed, but no longer than 3 s after the last
 * good answer; 60 s in all. When the DHT answers and names nobody, after 4 rounds on it (some 8 s). Holders that were
 * found and cannot be reached are dialled anew every 5 s: somebody waits, and on a slow machine the first dials fail.
 */
import { sleep, type Clock } from '../base/clock.js'
import { asKithError, KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { decodeHead, newestHeads, type Head } from '../format/head.js'
import type { Identity } from '../format/keys.js'
import { readOwnList } from './fellows.js'
import type { Roster } from './roster.js'
import type { Peer } from './types.js'

export interface Recovered {
  /** the newest head of each volume, verified */
  heads: { head: Head; bytes: Buffer }[]
  /** who gave a head that is the newest of its volume */
  sources: { id: string; name: string }[]
  /** what partners did wrong, one line each */
  faults: string[]
}

export interface RecoveryOptions {
  roster: Roster
  /** ours */
  identity: Identity
  clock: Clock
  log: Log
  signal?: AbortSignal
}

const stepMs = 50
const settleMs = 3000
const boundMs = 60_000
const redialMs = 5000
const roundsOfNobody = 4

interface Answer {
  peer: Peer
  heads: Buffer[]
}

/**
 * @throws KithError noPartners: nobody can be reached; notFound: the network answers, but nobody holds anything for
 *   this identity; damaged: what partners hold does not verify
 */
export async function findBackups(options: RecoveryOptions): Promise<Recovered> {
  const { roster, clock, log, signal } = options
  const asked = new Set<string>()
  const answers: Answer[] = []
  const faults: string[] = []
  const announced = new Set<string>()
  let newest = 0
  let pending = 0
  let lastNews = clock.monotonic()
  const ask = async (peer: Peer) => {
    asked.add(peer.key.toString('hex'))
    pending++
    try {
      const { heads } = await peer.request('headGet', {})
      answers.push({ peer, heads })
      lastNews = clock.monotonic()
      if (peer.keepsLists) await follow(peer)
    } catch (error) {
      faults.push(`${named(peer)} did not answer: ${asKithError(error).message}`)
    }
    pending--
  }
  const follow = async (peer: Peer) => {
    try {
      const { list } = await peer.request('fellowsGet', {})
      if (list.length === 0) return
      const { number, partners } = readOwnList(options.identity, peer.key, list)
      if (number <= newest) return
      newest = number
      for (const { key, addresses } of partners) {
        announced.add(key.toString('hex'))
        roster.meet(key, addresses)
      }
    } catch (error) {
      const { code, message } = asKithError(error)
      if (code !== 'unsupported') faults.push(`${named(peer)} gave no good list of partners: ${message}`)
    }
  }
  const topic = roster.seekHolders((id) => announced.add(id))
  const start = clock.monotonic()
  let redialled = start
  try {
    for (;;) {
      signal?.throwIfAborted()
      for (const peer of roster.holders()) if (!asked.has(peer.key.toString('hex'))) void ask(peer)
      const now = clock.monotonic()
      const all = topic.finished > 0 && pending === 0 && asked.size >= announced.size && announced.size > 0
      if (all && answers.length > 0) break
      if (answers.some(({ heads }) => heads.length > 0) && now - lastNews > settleMs) break
      if (topic.finished >= roundsOfNobody && announced.size === 0 && asked.size === 0) break
      if (now - start > boundMs) break
      if (asked.size < announced.size && now - redialled > redialMs) {
        redialled = now
        roster.hurry()
      }
      await sleep(clock, stepMs)
    }
  } finally {
    await topic.close()
  }
  log.info({ announced: announced.size, asked: asked.size, answers: answers.length }, 'asked for backups')
  return conclude(answers, faults, options.identity.id, { announced: announced.size, heard: topic.heard })
}

function conclude(
  answers: Answer[],
  faults: string[],
  owner: Buffer,
  { announced, heard }: { announced: number; heard: boolean },
): Recovered {
  const good: Buffer[] = []
  for (const { peer, heads } of answers) {
    for (const bytes of heads) {
      const fault = faultOf(bytes, owner)
      if (fault === undefined) good.push(bytes)
      else faults.push(`${named(peer)} gave a bad head: ${fault}`)
    }
  }
  const heads = newestHeads(good, owner)
  if (heads.length === 0) throw nothingFound(answers, faults, announced, heard)
  for (const { head } of heads) faults.push(...oldOnes(answers, head))
  const sources = answers
    .filter((answer) => heads.some(({ bytes }) => answer.heads.some((given) => given.equals(bytes))))
    .map(({ peer }) => ({ id: peer.key.toString('hex'), name: peer.name }))
  return { heads, sources, faults }
}

function faultOf(bytes: Buffer, owner: Buffer): string | undefined {
  try {
    return decodeHead(bytes).owner.equals(owner) ? undefined : 'it is another owner’s'
  } catch (error) {
    return asKithError(error).message
  }
}

/** Who has an older head of the volume than the newest; that may be no fault, but it must be known. */
function oldOnes(answers: Answer[], newest: Head): string[] {
  return answers.flatMap(({ peer, heads }) =>
    heads
      .filter((bytes) => faultOf(bytes, newest.owner) === undefined)
      .map((bytes) => decodeHead(bytes))
      .filter((head) => head.volumeId.equals(newest.volumeId) && head.sequence < newest.sequence)
      .map((head) => `${named(peer)} has an older head: number ${head.sequence} of ${newest.sequence}`),
  )
}

function nothingFound(answers: Answer[], faults: string[], announced: number, heard: boolean): KithError {
  const bad = faults.filter((fault) => fault.includes('bad head'))
  if (bad.length > 0)
    return new KithError(
      'damaged',
      `what the partners hold does not verify, so nothing was recovered: ${bad.join('; ')}`,
    )
  if (answers.length > 0 || (heard && announced === 0))
    return new KithError(
      'notFound',
      'nobody holds a backup for this phrase: check that it is the right one, and that a partner of it is on line',
    )
  if (announced > 0)
    return new KithError(
      'noPartners',
      `${announced} partners announce a backup, but none can be reached: check that they are on line, and try again`,
    )
  return new KithError(
    'noPartners',
    'the network does not answer: check the connection and the --bootstrap address, and try again',
  )
}

function named(peer: Peer): string {
  return `${peer.name || 'a partner'} (${peer.key.toString('hex').slice(0, 8)})`
}
