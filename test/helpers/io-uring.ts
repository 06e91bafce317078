/** Mounts over FUSE over io_uring, where the kernel has it. It is offered to mounts made while a parameter is on. */
import { accessSync, constants, readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { parameter, whileOffered } from '../../bench/uring.js'
import { mountForTest, type MountOptions, type TestMount } from './fuse-mount.js'

/** Why this machine cannot: said by the skipped test. */
export function lacking(): string | false {
  if (process.getuid?.() !== 0) return 'only root turns it on'
  try {
    accessSync(parameter, constants.W_OK)
    const disabled = readFileSync('/proc/sys/kernel/io_uring_disabled', 'utf8').trim()
    return disabled === '0' ? false : 'io_uring is disabled'
  } catch {
    return 'Linux 6.14 or later has it'
  }
}

/** Mounted with the kernel's parameter on, which is then as it was. */
export function mounted(t: Test, options: MountOptions = {}): Promise<TestMount> {
  return whileOffered(() => mountForTest(t, options))
}

/** How many io_urings the process has. */
export function rings(pid: number): number {
  const fds = `/proc/${pid}/fd`
  return readdirSync(fds).filter((fd) => {
    try {
      return readlinkSync(join(fds, fd)) === 'anon_inode:[io_uring]'
    } catch {
      return false // closed meanwhile
    }
  }).length
}
