/**
 * The systemd unit that keeps the daemon of one home running: for root a system unit, for an ordinary user a user unit.
 *
 * What matters in it:
 * - Only the daemon is ended with the unit (KillMode=process). kith-fuse, which the daemon started, goes on serving the
 *   mounts, and the next daemon takes them over.
 * - No option that gives the service a mount namespace of its own (ProtectSystem, PrivateTmp, ReadOnlyPaths, ...): what it
 *   mounts would be seen by nobody else. And for ordinary users none that implies NoNewPrivileges, since fusermount3 is
 *   set-uid. kith-fuse gives files any mode that its user asks for, so RestrictSUIDSGID is out as well.
 * - `kith daemon --wait`: a daemon that a command started in the background is waited for, and then followed.
 */
import { createHash } from 'node:crypto'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { KithError } from '../base/errors.js'

export interface UnitOptions {
  home: string
  /** the program and its first arguments, absolute paths */
  command: string[]
  /** a system unit */
  asRoot: boolean
}

/** Longer than the daemon takes to end by force. */
const stopSeconds = 45

/** What kith-fuse needs to act for any user, to mount, and to let the kernel read and write the files by itself. */
const capabilities = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_DAC_READ_SEARCH',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_LEASE',
  'CAP_LINUX_IMMUTABLE',
  'CAP_MKNOD',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_ADMIN',
  'CAP_SYS_PTRACE',
  'CAP_SYS_RESOURCE',
]

/** kithd.service for the usual home, and a name of its own for any other. */
export function unitName(home: string): string {
  if (home === join(homedir(), '.kith')) return 'kithd.service'
  return `kithd-${createHash('sha256').update(home).digest('hex').slice(0, 8)}.service`
}

export function unitText({ home, command, asRoot }: UnitOptions): string {
  const start = [...command, 'daemon', '--wait', '--home', home].map(quoted).join(' ')
  const lines = [
    '[Unit]',
    `Description=kith: directories that back themselves up (${home.replaceAll('%', '%%')})`,
    'Documentation=man:kith(1)',
    ...(asRoot ? ['After=local-fs.target', `RequiresMountsFor=${quotedPath(home)}`] : []),
    'StartLimitIntervalSec=0',
    '',
    '[Service]',
    'Type=exec',
    `ExecStart=${start}`,
    'Restart=always',
    'RestartSec=1',
    `TimeoutStopSec=${stopSeconds}`,
    '# kith-fuse goes on serving the mounts; the next daemon takes them over.',
    'KillMode=process',
    'OOMPolicy=continue',
    'UMask=0077',
    ...(asRoot ? hardening() : []),
    '',
    '[Install]',
    `WantedBy=${asRoot ? 'multi-user.target' : 'default.target'}`,
  ]
  return `${lines.join('\n')}\n`
}

function hardening(): string[] {
  return [
    '# Nothing here may give the service a mount namespace of its own: its mounts are for everybody.',
    `CapabilityBoundingSet=${capabilities.join(' ')}`,
    'LockPersonality=yes',
    'NoNewPrivileges=yes',
    'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
    'RestrictNamespaces=yes',
    'RestrictRealtime=yes',
    'SystemCallArchitectures=native',
  ]
}

/** An argument of ExecStart: systemd takes quotes and backslashes, % and $ for its own. */
function quoted(argument: string): string {
  return quotedPath(argument).replaceAll('$', '$$$$')
}

function quotedPath(path: string): string {
  if (/\p{Cc}/u.test(path))
    throw new KithError(
      'usage',
      'a path with control characters cannot stand in a systemd unit; give another --home',
    )
  return `"${path.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%')}"`
}
