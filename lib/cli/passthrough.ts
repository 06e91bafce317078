/**
 * `kith passthrough install|uninstall`, by root: the service that gives ordinary users' mounts the kernel's passthrough.
 * Installed is a copy that only root can change, never the file in the folder of whoever built kith.
 * With `--io-uring` FUSE over io_uring is turned on, too, for the whole machine: now, and at each start, whether fuse is a
 * module (modprobe.d) or part of the kernel (tmpfiles.d). Programs that do not ask for it never notice.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, chmodSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { KithError } from '../base/errors.js'
import { nativeFile } from '../base/native-files.js'
import type { Context } from './context.js'

const service = 'kith-passthrough.service'
const programPath = '/usr/local/libexec/kith-passthrough'
const unitPath = `/etc/systemd/system/${service}`

const uringParameter = '/sys/module/fuse/parameters/enable_uring'
const uringSettings = new Map([
  ['/etc/modprobe.d/kith-io-uring.conf', 'options fuse enable_uring=1\n'],
  ['/etc/tmpfiles.d/kith-io-uring.conf', `w- ${uringParameter} - - - - Y\n`],
])

const unit = `[Unit]
Description=Kernel passthrough for the kith mounts of ordinary users
Documentation=man:kith(1)

[Service]
ExecStart=${programPath}
Restart=on-failure
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SETUID CAP_SETGID
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX
PrivateNetwork=yes
ProtectHome=yes
ProtectSystem=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
TasksMax=600

[Install]
WantedBy=multi-user.target
`

export interface Installed {
  program: string
  unit: string
  /** false where no systemd runs: root starts the program by hand */
  started: boolean
  /** whether FUSE over io_uring is turned on by files that lie here */
  ioUring: boolean
}

export interface InstallOptions {
  /** turn FUSE over io_uring on, too */
  ioUring?: boolean
}

/**
 * Below `root`, which is / but in tests. A running service goes over to the new program. Without `ioUring` that is left as it
 * is. Throws `unsupported`, before anything is written, when the kernel has no FUSE over io_uring.
 */
export function install(root: string, { ioUring = false }: InstallOptions = {}): Installed {
  if (ioUring) turnOnUring(root)
  const program = join(root, programPath)
  const unitFile = join(root, unitPath)
  for (const path of [program, unitFile]) mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  // Beside it, then renamed: a running program cannot be written to, and no half of one is ever started.
  copyFileSync(nativeFile('kith-passthrough'), `${program}.new`)
  chmodSync(`${program}.new`, 0o755)
  renameSync(`${program}.new`, program)
  writeFileSync(unitFile, unit, { mode: 0o644 })
  const started = runsSystemd(root)
  if (started) {
    systemctl('daemon-reload')
    systemctl('enable', '--quiet', service)
    systemctl('restart', service)
  }
  return { program, unit: unitFile, started, ioUring: existingSettings(root).length > 0 }
}

/** The files first: where they cannot be written, nothing is on until the next start only. */
function turnOnUring(root: string): void {
  const parameter = join(root, uringParameter)
  // Before fuse is loaded its folder is not there.
  if (existsSync(join(root, '/sys/module/fuse')) && !existsSync(parameter))
    throw new KithError('unsupported', 'this kernel has no FUSE over io_uring; Linux 6.14 or newer has it')
  for (const [path, text] of uringSettings) {
    mkdirSync(dirname(join(root, path)), { recursive: true, mode: 0o755 })
    writeFileSync(join(root, path), text, { mode: 0o644 })
  }
  if (existsSync(parameter)) writeFileSync(parameter, 'Y')
}

function existingSettings(root: string): string[] {
  return [...uringSettings.keys()].map((path) => join(root, path)).filter((path) => existsSync(path))
}

export function uninstall(root: string): Installed {
  const [program, unitFile] = [join(root, programPath), join(root, unitPath)]
  const settings = existingSettings(root)
  if (!existsSync(program) && !existsSync(unitFile) && settings.length === 0)
    throw new KithError('notFound', 'kith-passthrough is not installed')
  const stopped = runsSystemd(root)
  if (stopped && existsSync(unitFile)) systemctl('disable', '--quiet', '--now', service)
  rmSync(program, { force: true })
  rmSync(unitFile, { force: true })
  // The parameter stays: somebody else may want it by now. The next start of the machine has it off.
  for (const path of settings) rmSync(path, { force: true })
  if (stopped) systemctl('daemon-reload')
  return { program, unit: unitFile, started: false, ioUring: false }
}

export function run(context: Context, what: 'install' | 'uninstall', options: InstallOptions): void {
  if (process.getuid?.() !== 0)
    throw new KithError('denied', `only root can do this; run: sudo kith passthrough ${what}`)
  if (what === 'uninstall') {
    context.print(uninstall('/'), () => 'kith-passthrough is gone. Mounts go on without it.')
    return
  }
  const result = install('/', options)
  const next = result.started
    ? 'It runs, and will after each start of the machine.'
    : `No systemd runs here; start it as root: ${result.program} &`
  const uring = options.ioUring ? ' FUSE over io_uring is on: what is mounted from now on uses it.' : ''
  context.print(result, () => `${result.program} is installed. ${next} Mounts use it by themselves.${uring}`)
}

function runsSystemd(root: string): boolean {
  return root === '/' && existsSync('/run/systemd/system')
}

function systemctl(...args: string[]): void {
  try {
    execFileSync('systemctl', args, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' })
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim().split('\n')[0] ?? ''
    throw new KithError('internal', `systemctl ${args.join(' ')} failed: ${said || String(error)}`)
  }
}
