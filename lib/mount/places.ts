/** Which directories may be protected, whatever the engine: opened, and compared with what they should be. */
import { realpath } from 'node:fs/promises'
import { KithError } from '../base/errors.js'
import { errnoCode, openRoot, statFd } from '../base/posix.js'

export async function refuseHome(dir: string, home: string): Promise<void> {
  const inside = await realpath(home)
  const within = (child: string, parent: string) =>
    `${child}/`.startsWith(parent === '/' ? '/' : `${parent}/`)
  if (within(dir, inside) || within(inside, dir))
    throw new KithError(
      'usage',
      `${dir} and kith's own ${inside} lie within each other; mount another directory`,
    )
}

/** Another directory in its place is not it: its disk may be missing. */
export function refuseOther(dir: string, rootFd: number, expected: bigint | undefined): void {
  if (expected !== undefined && statFd(rootFd).ino !== expected)
    throw new KithError(
      'notFound',
      `${dir} is another directory than the one that was protected (is its disk mounted?)`,
    )
}

export function openPlainDirectory(dir: string): number {
  try {
    return openRoot(dir)
  } catch (error) {
    const code = errnoCode(error)
    if (code === 'ENOTDIR') throw new KithError('usage', `${dir} is no directory; give a directory to mount`)
    if (code === 'ENOENT') throw new KithError('notFound', `there is no directory ${dir}; create it first`)
    if (code === 'EACCES' || code === 'EPERM')
      throw new KithError('denied', `${dir} cannot be opened; change its owner or mode`)
    throw error
  }
}
