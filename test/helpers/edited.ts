/** A protected directory whose changes are recorded as they are made, as kith-fuse does. */
import { mkdirSync, renameSync, rmSync, statSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Change } from '../../lib/format/changes.js'
import { change, type Fixture, linesOfSnapshot } from './store.js'

export const ino = (path: string) => statSync(path, { bigint: true }).ino

export class Edited {
  changes: Change[] = []

  constructor(readonly fixture: Fixture) {}

  path(name: string): string {
    return join(this.fixture.dir, name)
  }
  write(name: string, content: string | Buffer): void {
    const there = statSync(this.path(name), { throwIfNoEntry: false })
    writeFileSync(this.path(name), content)
    if (!there) this.named(name)
    this.changes.push(change('close', ino(this.path(name))))
  }
  truncate(name: string, bytes: number): void {
    truncateSync(this.path(name), bytes)
    this.changes.push(change('truncate', ino(this.path(name)), { offset: bytes }))
  }
  mkdir(name: string): void {
    mkdirSync(this.path(name))
    this.named(name)
  }
  unlink(name: string): void {
    this.named(name)
    unlinkSync(this.path(name))
  }
  remove(name: string): void {
    this.named(name)
    rmSync(this.path(name), { recursive: true })
  }
  rename(from: string, to: string): void {
    this.named(from)
    renameSync(this.path(from), this.path(to))
    this.named(to)
  }
  async snapshot() {
    await this.fixture.volume.recordChanges(this.changes)
    this.changes = []
    return this.fixture.volume.snapshot(this.fixture.rootFd)
  }
  async paths(): Promise<string[]> {
    const { store, volume } = this.fixture
    const reader = volume.reader(store.blocks)
    const lines = await linesOfSnapshot(reader, await reader.snapshot('latest'))
    return lines.map((line) => line.slice(1, line.search(/ (file|directory|symlink) /)))
  }
  private named(name: string): void {
    const parent = ino(join(this.path(name), '..'))
    this.changes.push(change('names', ino(this.path(name)), { parent, name: Buffer.from(basename(name)) }))
  }
}
