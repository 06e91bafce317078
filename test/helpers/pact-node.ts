// A node in a process of its own that dies at a step of a negotiation: kill -9 by its own hand, at a line of its log.
// argv: dir, seed of the identity, DHT node, circle's secret in hex (or `lend`, `seek`: in the open pool), the line to die at
// (none: -).
// Prints a JSON line whenever its agreement changes: {number, standing}.
import { pino } from 'pino'
import { identity } from './backup.js'
import { startNode } from './manager.js'

const [dir = '', seed = '0', bootstrap = '', secret = '', fatal = '-'] = process.argv.slice(2)
const log = pino(
  { level: 'debug' },
  {
    write(line: string) {
      const { msg } = JSON.parse(line) as { msg: string }
      if (msg === fatal) process.kill(process.pid, 'SIGKILL')
    },
  },
)
const isStranger = secret === 'lend' || secret === 'seek'
const node = await startNode(bootstrap, {
  dir,
  identity: identity(Number(seed)),
  log,
  ...(isStranger && { pool: { open: secret === 'lend', partners: secret === 'seek' ? 1 : 0, region: '' } }),
})
const tell = () => {
  const [partner] = node.partners.list()
  const { number, standing } = partner?.agreement ?? {}
  process.stdout.write(`${JSON.stringify({ number, standing })}\n`)
}
node.partners.on('change', tell)
if (!isStranger) await node.partners.restoreCircles([{ name: 'friends', secret: Buffer.from(secret, 'hex') }])
tell()
process.on('SIGTERM', () => {
  void node.stop().then(() => process.exit(0))
})
setInterval(() => undefined, 60_000)
