// A node of its own process for tests: announces a topic and stays until it is killed.
// argv: seed hex, bootstrap, topic hex, port. Prints `listening` when its first round is over.
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { keyPair } from '../../lib/format/hash.js'
import { Network } from '../../lib/partners/network.js'

const [seed = '', bootstrap = '', topic = '', port = '0'] = process.argv.slice(2)
const network = await Network.open({
  keyPair: keyPair(Buffer.from(seed, 'hex')),
  bootstrap: [bootstrap],
  port: Number(port),
  clock: systemClock,
  log: silentLog(),
})
network.on('connection', ({ stream }) => {
  stream.on('data', (bytes: Buffer) => stream.write(bytes))
})
await network.topic(Buffer.from(topic, 'hex'), { announce: true }).settled
console.log('listening')
