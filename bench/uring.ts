/**
 * The kernel's parameter that offers FUSE over io_uring to mounts: turned on while something is mounted, then as it was.
 * One at a time on the machine, by a lock on the parameter itself; a process that dies meanwhile leaves it as it was, too.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'

export const parameter = '/sys/module/fuse/parameters/enable_uring'

const script = 'before=$(cat "$0"); echo Y >"$0" && echo on; cat >/dev/null; echo "$before" >"$0"'

/** Throws when it cannot be turned on here. */
export async function whileOffered<T>(mount: () => Promise<T>): Promise<T> {
  const holder = spawn('flock', [parameter, 'sh', '-c', script, parameter], {
    stdio: ['pipe', 'pipe', 'ignore'],
    detached: true, // an interrupt from the terminal must not keep it from setting things back
  })
  const ended = once(holder, 'close')
  try {
    const said = await Promise.race([once(holder.stdout, 'data'), ended.then(() => undefined)])
    if (said === undefined) throw new Error('FUSE over io_uring cannot be turned on here')
    return await mount()
  } finally {
    holder.stdin.end()
    await ended
  }
}
