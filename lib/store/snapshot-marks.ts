/** Tags and pins of snapshots, as they come from users. */
import { KithError } from '../base/errors.js'
import { isTag, maxTagBytes, maxTags, sortedTags, type SnapshotRecord } from '../format/snapshot-list.js'
import type { MarkChange } from './types.js'

export function withMarks(record: SnapshotRecord, change: MarkChange): SnapshotRecord {
  const removed = new Set(change.removeTags)
  const tags = [...(change.tags ?? record.tags), ...(change.addTags ?? [])].filter((tag) => !removed.has(tag))
  return { ...record, tags: sortedTags(tags), pinned: change.pinned ?? record.pinned }
}

export function refuseBadTags(tags: readonly string[]): void {
  const bad = tags.find((tag) => !isTag(tag))
  if (bad === undefined) return
  throw new KithError(
    'usage',
    `${JSON.stringify(bad)} cannot be a tag: 1 to ${maxTagBytes} bytes without spaces and commas`,
  )
}

export function refuseTooMany(tags: readonly string[]): void {
  if (tags.length > maxTags) throw new KithError('usage', `a snapshot has at most ${maxTags} tags`)
}
