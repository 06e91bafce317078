/**
 * `kith passthrough install|uninstall`, by root: the service that gives ordinary users' mounts the kernel's passthrough.
 * Installed is a copy that only root can change, never the file in the folder of whoever built kith.
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
}

/** Below `root`, which is / but in tests. A running service goes over to the new program. */
export function install(root: string): Installed {
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
  return { program, unit: unitFile, started }
}

export function uninstall(root: string): Installed {
  const [program, unitFile] = [join(root, programPath), join(root, unitPath)]
  if (!existsSync(program) && !existsSync(unitFile))
    throw new KithError('notFound', 'kith-passthrough is not installed')
  const stopped = runsSystemd(root)
  if (stopped && existsSync(unitFile)) systemctl('disable', '--quiet', '--now', service)
  rmSync(program, { force: true })
  rmSync(unitFile, { force: true })
  if (stopped) systemctl('daemon-reload')
  return { program, unit: unitFile, started: false }
}

export function run(context: Context, what: 'install' | 'uninstall'): void {
  if (process.getuid?.() !== 0)
    throw new KithError('denied', `only root can do this; run: sudo kith passthrough ${what}`)
  if (what === 'uninstall') {
    context.print(uninstall('/'), () => 'kith-passthrough is gone. Mounts go on without it.')
    return
  }
  const result = install('/')
  const next = result.started
    ? 'It runs, and will after each start of the machine.'
    : `No systemd runs here; start it as root: ${result.program} &`
  context.print(result, () => `${result.program} is installed. ${next} Mounts use it by themselves.`)
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
