// A holder in a process of its own: a vault and sessions over a Unix socket, until it is killed.
// argv: vault dir, socket path, seed of the holder's identity. Prints `listening`.
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import type { NoiseStream } from 'hyperdht'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { Holder } from '../../lib/partners/holder.js'
import { Vault } from '../../lib/vault/vault.js'
import { identity, member, open, roomy } from './backup.js'

const [dir = '', path = '', seed = '0'] = process.argv.slice(2)
const hyperdht = createRequire(createRequire(import.meta.url).resolve('hyperdht'))
const SecretStream = hyperdht('@hyperswarm/secret-stream')
const self = identity(Number(seed))
const vault = await Vault.open(dir, {
  quotaBytes: roomy,
  partnerKey: self.id,
  clock: systemClock,
  log: silentLog(),
})
createServer((socket) => {
  const stream: NoiseStream = new SecretStream(false, socket, { keyPair: self.keyPair })
  stream.on('error', () => undefined)
  void stream.opened.then((isOpen) => {
    if (isOpen) open(stream, new Holder(vault, stream.remotePublicKey, member))
  })
}).listen(path, () => console.log('listening'))
