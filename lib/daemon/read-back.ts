/**
 * `ls`, `cat`, `diff` and `find`: snapshots told to the command line, item by item. Nothing here holds more than a batch
 * of items, and the trees' readers are bounded, whatever the size of the trees.
 */
import { KithError } from '../base/errors.js'
import { isText, nameText, parseNameText } from '../base/path-text.js'
import { bytesOfExtent, type DirectoryEntry, type Entry, type FileEntry } from '../format/entry.js'
import { compileGlob } from '../store/glob.js'
import { findSnapshot, infoOf } from '../store/snapshot-info.js'
import { diffTrees } from '../store/tree-diff.js'
import { findInTrees } from '../store/tree-find.js'
import type { TreeReader } from '../store/tree-reader.js'
import type { Live } from '../restore/compare.js'
import { diffWithLive } from '../restore/live-diff.js'
import { OpenDirectories } from '../restore/open-directories.js'
import { RuledDirectory } from '../store/rules.js'
import type { EntryState, Item, Params, Result } from './api.js'
import type { Job } from './control-server.js'
import type { ProtectedVolume } from './protected-volume.js'
import type { Services } from './services.js'

const batchItems = 256

/** Gathers items into batches. */
export class Sender<I> {
  count = 0
  #batch: I[] = []
  readonly #job: Job<I>

  constructor(job: Job<I>) {
    this.#job = job
  }

  async add(item: I): Promise<void> {
    this.count++
    this.#batch.push(item)
    if (this.#batch.length >= batchItems) await this.flush()
  }

  async flush(): Promise<void> {
    const batch = this.#batch
    this.#batch = []
    if (batch.length > 0) await this.#job.send(batch)
  }
}

/** The snapshot that is meant, and the entry at a path in it. @throws KithError notFound */
export async function findPart(
  reader: TreeReader,
  snapshot: string,
  path = '',
): Promise<{ name: string; names: Buffer[]; entry: Entry }> {
  const record = findSnapshot(await reader.records(), snapshot)
  const { name } = infoOf(record)
  const names: Buffer[] = []
  let entry: Entry = record.root
  for (const text of path.split('/')) {
    if (text === '' || text === '.') continue
    const next: Entry | undefined =
      entry.type === 'directory' ? await lookupText(reader, entry, text) : undefined
    if (!next) throw new KithError('notFound', `snapshot ${name} has no ${path}; see kith ls ${name}`)
    names.push(next.name)
    entry = next
  }
  return { name, names, entry }
}

/** A name as it is, or as a listing writes it where its bytes are no text. */
async function lookupText(
  reader: TreeReader,
  directory: DirectoryEntry,
  text: string,
): Promise<Entry | undefined> {
  const plain = await reader.lookup(directory, Buffer.from(text))
  const escaped = plain ? undefined : parseNameText(text)
  return escaped ? reader.lookup(directory, escaped) : plain
}

export function placeOf(names: readonly Buffer[]): { path: string; raw?: string } {
  if (names.every(isText)) return { path: names.map(String).join('/') }
  const slash = Buffer.from('/')
  const raw = Buffer.concat(names.flatMap((name, i) => (i === 0 ? [name] : [slash, name])))
  return { path: names.map(nameText).join('/'), raw: raw.toString('base64') }
}

export function stateOf(entry: Entry): EntryState {
  const { type, mode, uid, gid, nlink, size, mtimeNs, busy } = entry
  return {
    type,
    mode,
    uid,
    gid,
    links: nlink,
    size,
    mtime: Number(mtimeNs) / 1e6,
    ...(entry.type === 'symlink' && {
      target: isText(entry.target) ? entry.target.toString() : nameText(entry.target),
    }),
    ...((entry.type === 'character' || entry.type === 'block') && { rdev: Number(entry.rdev) }),
    ...(busy && { busy: true as const }),
  }
}

export function liveStateOf({ type, stat }: Live): EntryState {
  const { mode, uid, gid, nlink, size, mtimeNs, rdev } = stat
  return {
    type,
    mode: mode & 0o7777,
    uid,
    gid,
    links: nlink,
    size,
    mtime: Number(mtimeNs) / 1e6,
    ...((type === 'character' || type === 'block') && { rdev: Number(rdev) }),
  }
}

export async function ls(
  services: Services,
  { dir, snapshot, path, recursive }: Params<'ls'>,
  job: Job<Item<'ls'>>,
): Promise<Result<'ls'>> {
  const { reader } = await services.volumes.find(dir)
  const { name, names, entry } = await findPart(reader, snapshot, path)
  const sender = new Sender(job)
  const tell = (at: readonly Buffer[], found: Entry) => sender.add({ ...placeOf(at), ...stateOf(found) })
  if (entry.type !== 'directory') await tell(names, entry)
  else {
    const open = (at: readonly Buffer[], directory: DirectoryEntry) => ({
      at,
      entries: entriesOf(reader, directory),
    })
    // Paths are told from the directory that was asked for.
    const stack = [open([], entry)]
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const next = await top.entries.next()
      if (next.done) {
        stack.pop()
        continue
      }
      const at = [...top.at, next.value.name]
      await tell(at, next.value)
      if (recursive && next.value.type === 'directory') stack.push(open(at, next.value))
    }
  }
  await sender.flush()
  return { snapshot: name, entries: sender.count }
}

async function* entriesOf(reader: TreeReader, directory: DirectoryEntry): AsyncGenerator<Entry> {
  for await (const batch of reader.batches(directory)) yield* batch
}

export async function cat(
  services: Services,
  { dir, snapshot, path }: Params<'cat'>,
  job: Job<Item<'cat'>>,
): Promise<Result<'cat'>> {
  const { reader } = await services.volumes.find(dir)
  const { name, entry } = await findPart(reader, snapshot, path)
  if (entry.type !== 'file') throw notAFile(name, path ?? '', entry)
  await sendContent(reader, entry, job)
  return { snapshot: name, bytes: entry.size }
}

function notAFile(snapshot: string, path: string, entry: Entry): KithError {
  const what = entry.type === 'symlink' ? `a symlink to ${nameText(entry.target)}` : `a ${entry.type}`
  const hint = entry.type === 'directory' ? `; list it by: kith ls ${snapshot}:${path}` : ''
  return new KithError('usage', `${path === '' ? snapshot : path} is ${what}, no file${hint}`)
}

/** In order; the next chunk is fetched while one is sent. */
async function sendContent(reader: TreeReader, file: FileEntry, job: Job<Item<'cat'>>): Promise<void> {
  const { content } = file
  if (content.kind === 'inline') {
    await job.send([{ data: content.bytes.toString('base64') }])
    return
  }
  let sending: Promise<void> = Promise.resolve()
  for await (const { extent } of reader.pieces(file)) {
    const item =
      extent.kind === 'hole'
        ? { zeros: extent.bytes }
        : { data: bytesOfExtent(extent, await reader.chunk(extent.chunk)).toString('base64') }
    await sending
    sending = job.send([item])
    sending.catch(() => undefined) // seen when it is awaited
  }
  await sending
}

export async function diff(
  services: Services,
  { dir, before, after, content = false }: Params<'diff'>,
  job: Job<Item<'diff'>>,
): Promise<Result<'diff'>> {
  const volume = await services.volumes.find(dir)
  if (after === undefined) return diffLive(volume, before, content, job)
  if (content) throw new KithError('usage', '--content is for a comparison with the directory as it is now')
  const { reader } = volume
  const records = await reader.records()
  const [a, b] = [findSnapshot(records, before), findSnapshot(records, after)]
  const sender = new Sender(job)
  for await (const found of diffTrees(reader, a.root, b.root, job.signal)) {
    await sender.add({
      change: found.mark,
      ...placeOf(found.path.length === 0 ? [Buffer.from('.')] : found.path),
      before: found.before ? stateOf(found.before) : null,
      after: found.after ? stateOf(found.after) : null,
    })
  }
  await sender.flush()
  return { before: infoOf(a).name, after: infoOf(b).name, changes: sender.count }
}

/** Against the live directory, beneath its mount if it has one. */
async function diffLive(
  volume: ProtectedVolume,
  before: string,
  content: boolean,
  job: Job<Item<'diff'>>,
): Promise<Result<'diff'>> {
  const { reader, stored } = volume
  const record = findSnapshot(await reader.records(), before)
  const settings = stored.excludes()
  const sender = new Sender(job)
  const release = stored.hold(record.root.node)
  const directories = new OpenDirectories(volume.openLive())
  try {
    const found = diffWithLive(reader, record.root, directories, {
      convergence: stored.keys.convergence,
      leftOut: { rules: [(own) => RuledDirectory.root(settings, own)], caches: settings.caches },
      content,
      signal: job.signal,
    })
    for await (const { mark, path, saved, live } of found) {
      const states = { before: saved ? stateOf(saved) : null, after: live ? liveStateOf(live) : null }
      await sender.add({ change: mark, ...placeOf(path), ...states })
    }
  } finally {
    directories.closeAll()
    release()
  }
  await sender.flush()
  return { before: infoOf(record).name, after: null, changes: sender.count }
}

export async function find(
  services: Services,
  { dir, pattern, type }: Params<'find'>,
  job: Job<Item<'find'>>,
): Promise<Result<'find'>> {
  const { reader } = await services.volumes.find(dir)
  const matches = compileGlob(pattern)
  const records = await reader.records()
  const names = records.map((record) => infoOf(record).name)
  const wanted = (entry: Entry) => (!type || entry.type === type) && matches(textOf(entry.name))
  const roots = records.map(({ root }) => root)
  const sender = new Sender(job)
  for await (const { path, entry, snapshots } of findInTrees(reader, roots, wanted, job.signal)) {
    await sender.add({ ...placeOf(path), ...stateOf(entry), snapshots: runsOf(snapshots, names) })
  }
  await sender.flush()
  return { snapshots: records.length, found: sender.count }
}

function textOf(name: Buffer): string {
  return isText(name) ? name.toString() : nameText(name)
}

/** Runs of neighbours among ascending indices. */
function runsOf(
  indices: readonly number[],
  names: readonly string[],
): { first: string; last: string; count: number }[] {
  const runs: { from: number; to: number }[] = []
  for (const index of indices) {
    const last = runs.at(-1)
    if (last?.to === index - 1) last.to = index
    else runs.push({ from: index, to: index })
  }
  return runs.map(({ from, to }) => ({
    first: names[from] ?? '',
    last: names[to] ?? '',
    count: to - from + 1,
  }))
}
