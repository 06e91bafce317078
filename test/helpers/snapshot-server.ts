/**
 * A process that serves `.snapshots` of a mount as a daemon does: one to be stopped, killed and replaced.
 *   node snapshot-server.js DIR HOME VOLUME-ID-HEX     prints `serving`
 */
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { Mount } from '../../lib/mount/mount.js'
import { MemoryVolume } from './memory-volume.js'

const [dir = '', home = '', id = ''] = process.argv.slice(2)
const volume = new MemoryVolume()
volume.take(Date.UTC(2024, 5, 1, 9, 30, 0), { file: { file: Buffer.from('served') } })
const options = { dir, home, volumeId: Buffer.from(id, 'hex'), clock: systemClock, log: silentLog() }
const mount = await Mount.reattach(options)
if (!mount) throw new Error('there is no mount')
mount.serve(volume)
mount.on('replaced', () => process.exit(3))
process.stdout.write('serving\n')
