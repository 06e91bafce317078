import t from 'tap'
import { WriteOut, writtenOutBytes } from '../../lib/restore/write-out.js'

/** Syncs that end when they are told to. */
function syncs() {
  const running: { done: () => void; fail: (error: Error) => void }[] = []
  const sync = () =>
    new Promise<void>((resolve, reject) => {
      running.push({ done: resolve, fail: reject })
    })
  return { running, sync }
}

t.test('what is written goes out in the meantime, by one sync at a time', async (t) => {
  const { running, sync } = syncs()
  const out = new WriteOut(sync)
  out.wrote(writtenOutBytes - 1)
  t.equal(running.length, 0)
  out.wrote(1)
  out.wrote(writtenOutBytes)
  t.equal(running.length, 1)
  running[0]?.done()
  await out.idle()
  out.wrote(0)
  t.equal(running.length, 2, 'what came while one ran is not forgotten')
  let ended = false
  const end = out.end().then(() => (ended = true))
  running[1]?.done()
  await out.idle()
  t.equal(running.length, 3, 'the end has a sync of its own')
  t.notOk(ended)
  running[2]?.done()
  await end
})

t.test('a sync that failed fails the end, though a later one does not', async (t) => {
  const { running, sync } = syncs()
  const out = new WriteOut(sync)
  out.wrote(writtenOutBytes)
  running[0]?.fail(new Error('EIO'))
  await out.idle()
  out.wrote(writtenOutBytes)
  running[1]?.done()
  await t.rejects(out.end(), { message: 'EIO' })
  t.equal(running.length, 2)
})
