/** Prints what just happened: files written, snapshots taken, partners that have caught up. */
import { watch } from 'node:fs'
import { join } from 'node:path'
import type { Status } from '../../lib/daemon/api.js'
import { plural, size } from '../../lib/cli/output.js'
import { kith } from './processes.js'

const pollMs = 1500
const quietMs = 300

/** @param say prints a line. Returns what ends the watching; it resolves when no question to the daemon is under way. */
export function watchEverything(dir: string, home: string, say: (line: string) => void): () => Promise<void> {
  let stopped = false
  const recent = new Map<string, NodeJS.Timeout>()
  const watcher = watch(dir, { recursive: true }, (_event, name) => {
    if (name === null) return
    clearTimeout(recent.get(name))
    recent.set(
      name,
      setTimeout(() => {
        recent.delete(name)
        say(`changed: ${join(dir, name)}`)
      }, quietMs),
    )
  })
  watcher.on('error', () => undefined) // a folder that went while it was looked at

  let snapshot: string | undefined
  const held = new Map<string, string>()
  const poll = async () => {
    const status = await kith<Status>(['status', dir], home).catch(() => undefined)
    const volume = status?.volumes[0]
    if (volume && !stopped) {
      const last = volume.lastSnapshot
      if (last && last.name !== snapshot) {
        say(
          `snapshot ${last.name}: ${plural(last.files, 'file')}, ${size(last.bytes)}, ${size(last.bytesNew)} new`,
        )
        snapshot = last.name
      }
      for (const partner of volume.partners) {
        const now = `${partner.name}${partner.online ? '' : ' (off line)'} holds ${size(partner.bytesHeld)}`
        if (held.get(partner.id) !== now && partner.bytesHeld > 0) say(now)
        held.set(partner.id, now)
        for (const fault of partner.faults) if (!held.has(fault)) say(`! ${partner.name}: ${fault}`)
        for (const fault of partner.faults) held.set(fault, '')
      }
    }
    if (!stopped) next = setTimeout(() => (polling = poll()), pollMs)
  }
  let next: NodeJS.Timeout | undefined
  let polling = poll()
  return async () => {
    stopped = true
    clearTimeout(next)
    watcher.close()
    await polling
    for (const timer of recent.values()) clearTimeout(timer)
  }
}
