/** Every command with its arguments and options. What a command does stands in its own file, loaded when it runs. */
import { readFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import { Context, type GlobalOptions } from './context.js'

export function version(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

/** Runs `run` with the context, the arguments of the command, and its options. */
function action(
  command: Command,
  run: (context: Context, args: string[], options: never) => Promise<void>,
): void {
  command.action(async () => {
    const context = new Context(command.optsWithGlobals<GlobalOptions>())
    await run(context, command.processedArgs as string[], command.opts() as never)
  })
}

export function buildProgram(): Command {
  const program = new Command('kith')
  program
    .description("A mounted directory that backs itself up onto other people's machines.")
    .version(version(), '--version', 'print the version')
    .helpOption('--help', 'show help')
    .option('--home <DIR>', 'where kith keeps its own things (default: KITH_HOME, else ~/.kith)')
    .option(
      '--bootstrap <HOST:PORT,..>',
      'nodes of a private DHT to start from; kept in the home; `public` ends that',
    )
    .option('--json', 'print facts as JSON')
    .showHelpAfterError(false)
  protecting(program)
  keeping(program)
  lookingInto(program)
  readingBack(program)
  checking(program)
  partnering(program)
  running(program)
  return program
}

/** What sets what is left out of snapshots. */
function excludeOptions(command: Command): Command {
  return command
    .option('--exclude <PATTERN>', 'leave out what matches, as in .gitignore; may be repeated', gather)
    .option('--exclude-caches', 'leave out directories with a CACHEDIR.TAG')
    .option('--exclude-larger-than <SIZE>', 'leave out larger files, e.g. 2G; `none` ends that')
}

function protecting(program: Command): void {
  const init = program
    .command('init')
    .description("make this node's identity and keys; shows the recovery phrase, once")
    .option('--phrase-out <FILE>', 'write the phrase to a new file (0600) instead of showing it')
    .option('--name <NAME>', 'what partners call this node (default: the host name)')
  action(init, async (...given) => (await import('./init.js')).run(...given))

  const mount = program
    .command('mount')
    .description('protect a directory')
    .argument('<DIR>')
    .addOption(
      new Option('--engine <ENGINE>', 'fuse, or watch: without a mount, where no FUSE can be had')
        .choices(['fuse', 'watch'])
        .default('fuse'),
    )
    .option('--share <CIRCLE>', 'share equal blocks with members of the circle who do the same')
  action(excludeOptions(mount), async (...given) => (await import('./mount.js')).run(...given))

  const exclude = program
    .command('exclude')
    .description('what is left out of snapshots, beside what .kithignore files name')
    .argument('[DIR]')
  excludeOptions(exclude)
    .option('--no-exclude-caches', 'take them in again')
    .option('--remove <PATTERN>', 'take a pattern back; may be repeated', gather)
    .option('--dry-run', 'list what would be left out now, and change nothing')
  action(exclude, async (...given) => (await import('./exclude.js')).run(...given))

  const unmount = program
    .command('unmount')
    .description('stop protecting a directory; its files and its backups stay')
    .argument('<DIR>')
    .option('--decommission', 'also have every partner release what it holds')
    .option('--yes', 'do not ask')
  action(unmount, async (...given) => (await import('./unmount.js')).run(...given))

  const snapshot = program
    .command('snapshot')
    .description('take a snapshot now')
    .argument('[DIR]')
    .option('--tag <TAG>', 'mark it with a tag; may be repeated', gather)
    .option('--pin', 'no rule forgets it')
  action(snapshot, async (...given) => (await import('./snapshot.js')).run(...given))

  const snapshots = program
    .command('snapshots')
    .description('list the snapshots')
    .argument('[DIR]')
    .option('--tag <TAG>', 'only those with one of these tags; may be repeated', gather)
  action(snapshots, async (...given) => (await import('./snapshots.js')).run(...given))

  const schedule = program
    .command('schedule')
    .description('when snapshots are taken; without options, tells it')
    .argument('[DIR]')
    .option('--every <TIME>', 'by interval, like 30m, 2h, 1d')
    .option('--no-every', 'not by interval')
    .option('--quiet <TIME>', 'when nothing changed for so long')
    .option('--at <TIMES>', 'daily at these times, like 03:00,12:30')
    .option('--before-stop', 'once more before the daemon ends')
    .option('--default', 'as it is without a schedule: hourly')
  action(schedule, async (...given) => (await import('./schedule.js')).run(...given))

  const status = program
    .command('status')
    .description('mount, last snapshot, bytes waiting, partners')
    .argument('[DIR]')
  action(status, async (context, args) => (await import('./status.js')).run(context, args))

  const sync = program
    .command('sync')
    .description('wait until every partner holds the newest snapshot')
    .argument('[DIR]')
    .option('--timeout <SECONDS>', 'give up after so long')
  action(sync, async (...given) => (await import('./sync.js')).run(...given))
}

function keepOptions(command: Command): Command {
  for (const [rule, what] of [
    ['last', 'the newest N'],
    ['hourly', 'the last of each of N hours'],
    ['daily', 'the last of each of N days'],
    ['weekly', 'the last of each of N weeks'],
    ['monthly', 'the last of each of N months'],
    ['yearly', 'the last of each of N years'],
  ]) {
    command.option(`--keep-${rule} <N>`, `keep ${what}`)
  }
  return command
    .option('--keep-within <TIME>', 'keep what is younger than this, like 36h, 30d, 8w, 6m, 1y')
    .option('--keep-tag <TAG>', 'keep what has this tag; may be repeated', gather)
}

function keeping(program: Command): void {
  const tag = program
    .command('tag')
    .description('mark snapshots with tags')
    .argument('<SNAPSHOT...>')
    .option('--add <TAG>', 'may be repeated', gather)
    .option('--remove <TAG>', 'may be repeated', gather)
    .option('--set <TAG>', 'instead of those it has; may be repeated', gather)
  action(ofDir(tag), async (...given) => (await import('./mark.js')).tag(...given))
  for (const what of ['pin', 'unpin'] as const) {
    const command = program
      .command(what)
      .description(what === 'pin' ? 'keep snapshots whatever the rules say' : 'let the rules decide again')
      .argument('<SNAPSHOT...>')
    action(ofDir(command), async (context, args, options) =>
      (await import('./mark.js')).pin(context, args, options, what === 'pin'),
    )
  }
  const forget = program
    .command('forget')
    .description('take snapshots off the list: those named, or those that the rules do not keep')
    .argument('[SNAPSHOT...]')
    .option('--dry-run', 'only tell which, and why')
  action(ofDir(keepOptions(forget)), async (...given) => (await import('./forget.js')).run(...given))

  const prune = program
    .command('prune')
    .description('free what no snapshot needs any more, here and then at the partners')
    .option('--dry-run', 'only tell how much')
  action(prune, async (...given) => (await import('./prune.js')).run(...given))

  const budget = program
    .command('budget')
    .description('how much room the blocks kept here may take; without arguments, tells it')
    .argument('[SIZE]', 'like 20G; `none` keeps everything')
    .option('--copies <N>', 'partners that must hold a block before it may go from here (2)')
  action(budget, async (...given) => (await import('./budget.js')).run(...given))

  const placement = program
    .command('placement')
    .description('how new data is laid out over partners; without arguments, tells it')
    .argument('[POLICY]', 'replica, replica:3, erasure:3+2, auto, auto:survive=2, auto:nines=6')
  action(placement, async (context, given) => (await import('./placement.js')).run(context, given))

  const policy = program
    .command('policy')
    .description('the rules by which the daemon forgets snapshots after each new one')
    .argument('[DIR]')
    .option('--none', 'keep everything')
  action(keepOptions(policy), async (...given) => (await import('./policy.js')).run(...given))
}

function gather(value: string, before: string[] = []): string[] {
  return [...before, value]
}

function ofDir(command: Command): Command {
  return command.option('--dir <DIR>', 'of which protected directory, when there are several')
}

function lookingInto(program: Command): void {
  const ls = program.command('ls').description('list what a snapshot has').argument('<SNAPSHOT[:PATH]>')
  ofDir(ls)
    .option('-l, --long', 'with mode, owner, size and time')
    .option('-R, --recursive', 'all that is below')
  action(ls, async (...given) => (await import('./ls.js')).run(...given))

  const cat = program.command('cat').description('print a file of a snapshot').argument('<SNAPSHOT:PATH>')
  action(ofDir(cat), async (...given) => (await import('./cat.js')).run(...given))

  const diff = program
    .command('diff')
    .description('what changed between two snapshots, or from one to the directory as it is now')
    .argument('<SNAPSHOT>')
    .argument('[SNAPSHOT]', 'a second snapshot; a DIR may stand here as well')
    .argument('[DIR]')
    .option('--content', 'of the directory: also read files whose size and times are as they were')
  action(diff, async (...given) => (await import('./diff.js')).run(...given))

  const browse = program
    .command('browse')
    .description('show all snapshots at an empty directory, read-only, until Ctrl-C')
    .argument('[MOUNTPOINT]')
    .option('--stop', 'end the one at MOUNTPOINT, or all')
  action(ofDir(browse), async (...given) => (await import('./browse.js')).run(...given))

  const find = program
    .command('find')
    .description('look for names in all snapshots')
    .argument('<PATTERN>')
    .argument('[DIR]')
    .addOption(
      new Option('--type <TYPE>', 'only files (f), directories (d), links (l), ...').choices([...'fdlpsbc']),
    )
  action(find, async (...given) => (await import('./find.js')).run(...given))
}

function overwrite(): Option {
  return new Option('--overwrite <MODE>', 'what to do with files that are there already')
    .choices(['never', 'if-changed', 'always'])
    .default('never')
}

function readingBack(program: Command): void {
  const restore = program
    .command('restore')
    .description('copy a snapshot, or a path in it, to another place')
    .argument('<SNAPSHOT[:PATH]>')
    .requiredOption(
      '--to <TARGET>',
      'where to; must not exist or be empty, unless --overwrite says otherwise',
    )
    .addOption(overwrite())
    .option('--include <PATTERN>', 'only what matches, as in .gitignore; may be repeated', gather)
    .option('--exclude <PATTERN>', 'not what matches; may be repeated', gather)
    .option('--delete', 'also remove what the snapshot has not, below TARGET; tells what, and asks')
    .option('--yes', 'do not ask')
    .option('--dry-run', 'only tell what would be done')
  action(ofDir(restore), async (...given) => (await import('./restore.js')).run(...given))

  const recover = program
    .command('recover')
    .description('get everything back on a new machine, from nothing but the phrase')
    .requiredOption('--phrase-file <FILE>', 'file with the phrase; - reads standard input')
    .requiredOption('--to <DIR>', 'where to put the files')
    .addOption(overwrite())
  action(recover, async (...given) => (await import('./recover.js')).run(...given))
}

function checking(program: Command): void {
  const check = program
    .command('check')
    .description('whether all that the snapshots need is there and whole')
    .option('--read-data [PART]', 'also read the blocks kept here: all, the nth of t parts (n/t), or x%')
  action(check, async (...given) => (await import('./check.js')).run(...given))

  const repair = program
    .command('repair')
    .description('heal what is damaged, from partners, live files and other copies')
    .option('--dry-run', 'only tell what could be healed')
  action(repair, async (...given) => (await import('./repair.js')).run(...given))
}

function partnering(program: Command): void {
  const circle = program.command('circle').description('circles: groups of partners')
  const create = circle.command('create').description('form a circle').argument('<NAME>')
  action(create, async (context, args) => (await import('./circle.js')).run(context, args))

  const invite = program
    .command('invite')
    .description('a code to pass to a friend, who joins your circle with it')
    .option('--circle <NAME>', 'which circle, when there are several')
  action(invite, async (...given) => (await import('./invite.js')).run(...given))

  const join = program.command('join').description('join a circle').argument('<CODE>')
  action(join, async (context, args) => (await import('./join.js')).run(context, args))

  const partners = program
    .command('partners')
    .description('who, since when, holding what for whom')
    .option('--why', 'what speaks for each of them')
  action(partners, async (context, _, { why }) =>
    (await (why ? import('./why.js') : import('./partners.js'))).run(context),
  )
  const find = partners
    .command('find')
    .description('how many partners you want in all; missing ones are sought in the open pool')
    .argument('[COUNT]', 'friends among them; 0: none are sought')
  action(find, async (context, args) => (await import('./find-partners.js')).run(context, args))

  const offer = program
    .command('offer')
    .description('how much space you lend to partners, and want of them')
    .argument('[SIZE]', 'in all, like 200G')
    .option('--each <SIZE>', 'to each partner at most; `all`: no bound of its own')
    .option('--want <SIZE>', 'of each partner at most; `all`: as much as it offers')
    .option('--open', 'lend to strangers of the open pool, too')
    .option('--closed', 'lend to members of your circles only')
  action(offer, async (...given) => (await import('./offer.js')).run(...given))

  const limit = program
    .command('limit')
    .description('how fast you send to partners; without options, as it is')
    .option('--up <RATE>', 'a second to all together at most, like 500K or 2M; `none`: no bound')
    .option('--hours <HOURS>', 'when that holds, like "mon-fri 8-18, sat 9-12", local time; `all`: always')
  action(limit, async (...given) => (await import('./limit.js')).run(...given))

  agreements(program)

  const away = program
    .command('away')
    .description('announce to partners that this machine is out of reach for a while; at most 90 days a year')
    .option('--until <WHEN>', 'a date (2026-12-24, 2026-12-24 18:00), or a time from now on (36h, 10d, 2w)')
    .option('--back', 'it is within reach again')
  action(away, async (...given) => (await import('./away.js')).run(...given))
  const audit = program
    .command('audit')
    .description('have partners prove now that they hold what they claim')
    .option('--full', 'every block instead of a sample')
  action(audit, async (...given) => (await import('./audit.js')).run(...given))
}

function agreements(program: Command): void {
  const agreement = program
    .command('agreement')
    .description('what you and a partner promised each other; PARTNER is a name, or the beginning of an id')
  const show = agreement.command('show').description('print it').argument('<PARTNER>')
  action(show, async (context, args) => (await import('./agreement.js')).show(context, args))
  const renew = agreement
    .command('renew')
    .description('a new one, as things are now; also after one that was ended')
    .argument('<PARTNER>')
  action(renew, async (context, args) => (await import('./agreement.js')).renew(context, args))
  const resize = agreement
    .command('resize')
    .description('a new one, with other sizes')
    .argument('<PARTNER>')
    .option('--hold <SIZE>', 'that you hold for it, at most')
    .option('--want <SIZE>', 'that it holds for you, at most')
  action(resize, async (...given) => (await import('./agreement.js')).resize(...given))
  const end = agreement
    .command('end')
    .description('nothing new is sent either way; what is held goes after the notice')
    .argument('<PARTNER>')
    .option('--yes', 'do not ask')
  action(end, async (...given) => (await import('./agreement.js')).end(...given))
}

function running(program: Command): void {
  const daemon = program
    .command('daemon')
    .description('run the daemon in the foreground')
    .option('--wait', 'while another daemon serves the home, wait for its end')
  action(daemon, async (...given) => (await import('./daemon.js')).run(...given))

  const service = program.command('service').description('have systemd keep the daemon running')
  const install = service
    .command('install')
    .description('write the unit, enable and start it')
    .option('--print', 'only print the unit')
  action(install, async (...given) => (await import('./service.js')).install(...given))
  const remove = service.command('remove').description('stop and remove the unit')
  action(remove, async (context) => (await import('./service.js')).remove(context))
  const state = service.command('status').description('whether it is installed, enabled, running')
  action(state, async (context) => (await import('./service.js')).status(context))

  const dht = program
    .command('dht')
    .description('run a bootstrap node for a private network')
    .option('--port <N>', 'UDP port (default: any free one)')
    .option('--host <ADDRESS>', 'address that others reach this node at', '127.0.0.1')
  action(dht, async (...given) => (await import('./dht.js')).run(...given))

  const passthrough = program
    .command('passthrough')
    .description("kernel passthrough for ordinary users' mounts: a service of root's")
  for (const what of ['install', 'uninstall'] as const) {
    const command = passthrough
      .command(what)
      .description(what === 'install' ? 'install it and start it; by root' : 'end it and remove it; by root')
    if (what === 'install')
      command.option('--io-uring', 'turn FUSE over io_uring on, too, now and at each start (Linux 6.14)')
    action(command, async (context, _, options) =>
      (await import('./passthrough.js')).run(context, what, options),
    )
  }

  const stop = program.command('stop').description('end the daemon; mounted directories stay mounted')
  action(stop, async (context) => (await import('./stop.js')).run(context))
}
