/** `kith service install|remove|status`: has systemd keep the daemon running, also from the start of the machine on. */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { KithError } from '../base/errors.js'
import { heapFlags } from '../base/heap.js'
import { ControlClient } from '../daemon/control-client.js'
import type { Context } from './context.js'
import { unitName, unitText } from './service-unit.js'

const asRoot = process.geteuid?.() === 0
const systemctl = asRoot ? 'systemctl' : 'systemctl --user'

interface Unit {
  name: string
  file: string
  text: string
  /** what a supervisor of another kind would run */
  command: string
}

function unitOf(context: Context): Unit {
  const name = unitName(context.home)
  const config = process.env.XDG_CONFIG_HOME ?? join(homedir(), '.config')
  const dir = asRoot ? '/etc/systemd/system' : join(config, 'systemd/user')
  const main = realpathSync(fileURLToPath(new URL('../cli/main.js', import.meta.url)))
  const command = [process.execPath, ...heapFlags, main]
  return {
    name,
    file: join(dir, name),
    text: unitText({ home: context.home, command, asRoot }),
    command: [...command, 'daemon', '--wait', '--home', context.home].map(shellWord).join(' '),
  }
}

export async function install(context: Context, _: string[], options: { print?: true }) {
  const unit = unitOf(context)
  const { name, file, text } = unit
  if (options.print) return context.print({ unit: name, file, text }, () => text)
  await refuseWithoutSystemd(unit)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text, { mode: 0o644 })
  await run('daemon-reload')
  await run('enable', name)
  // One in the background has the lock: systemd's takes its place.
  await stopRunning(context.home)
  await run('restart', name)
  context.print({ unit: name, file }, () => {
    const lines = [`${name} keeps the daemon running from now on (${file}).`]
    if (!asRoot)
      lines.push('To have it run from the start of the machine, before you log in: loginctl enable-linger')
    return lines.join('\n')
  })
}

export async function remove(context: Context) {
  const { name, file } = unitOf(context)
  if (!existsSync(file))
    throw new KithError('notFound', `there is no ${file}; nothing was installed for this home`)
  const running = await isRunning()
  if (running) await run('disable', '--now', name)
  rmSync(file)
  if (running) await run('daemon-reload')
  context.print({ unit: name, file }, () => `${name} is removed. Mounted directories stay mounted.`)
}

export async function status(context: Context) {
  const { name, file } = unitOf(context)
  const systemd = await isRunning()
  const ask = async (what: string) => systemd && (await tried(what, name)).code === 0
  const facts = {
    unit: name,
    file,
    systemd,
    installed: existsSync(file),
    enabled: await ask('is-enabled'),
    active: await ask('is-active'),
  }
  context.print(facts, () => {
    if (!systemd) return withoutSystemd(unitOf(context))
    if (!facts.installed) return `${name} is not installed; install it by: kith service install`
    return `${name}: ${facts.enabled ? 'enabled' : 'not enabled'}, ${facts.active ? 'running' : 'not running'} (${file})`
  })
}

/** The unit by which systemd keeps this process running, if it does. */
export function unitIn(cgroups: string): string | undefined {
  return /\/(kithd(?:-[0-9a-f]{8})?\.service)$/m.exec(cgroups)?.[1]
}

/** How to end a unit for good. */
export function stopCommand(unit: string): string {
  return `${systemctl} stop ${unit}`
}

function withoutSystemd({ command }: Unit): string {
  return `systemd does not run here; have whatever starts services run this, and run it again when it ends: ${command}`
}

async function refuseWithoutSystemd(unit: Unit): Promise<void> {
  if (!(await isRunning())) throw new KithError('unsupported', withoutSystemd(unit))
}

/** Whether a systemd answers that would run our unit: the machine's, or this user's. */
async function isRunning(): Promise<boolean> {
  return existsSync('/run/systemd/system') && (await tried('show', '--property=Version')).code === 0
}

async function stopRunning(home: string): Promise<void> {
  const client = await ControlClient.connect(home)
  if (!client) return
  await client.call('stop', {})
  await client.closed
}

async function run(...args: string[]): Promise<void> {
  const { code, stderr } = await tried(...args)
  if (code !== 0)
    throw new KithError(
      'internal',
      `${systemctl} ${args.join(' ')} failed: ${stderr.trim() || `exit code ${code}`}`,
    )
}

function tried(...args: string[]): Promise<{ code: number; stderr: string }> {
  const [program = '', ...first] = systemctl.split(' ')
  return new Promise((resolve) => {
    execFile(program, [...first, ...args], { timeout: 60_000 }, (error, _stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1
      resolve({ code, stderr: stderr || (error?.message ?? '') })
    })
  })
}

function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}
