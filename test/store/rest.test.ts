import { realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Hand } from '../helpers/hand-clock.js'
import { mappedKilobytes } from '../helpers/mapped.js'
import { protect } from '../helpers/store.js'

t.setTimeout(120_000)

t.test(
  'a second after any snapshot the mapped index leaves memory, however small the snapshot was',
  async (t) => {
    const hand = new Hand()
    const { dir, home, rootFd, volume, store } = await protect(t, hand)
    const index = realpathSync(join(home, 'data.mdb'))
    const readAll = () => [...volume.blockNames()].length
    for (let i = 0; i < 1000; i++)
      writeFileSync(join(dir, `file ${i}`), `the content of file ${i}\n`.repeat(100))
    await volume.snapshot(rootFd)
    await hand.pass(1000)
    readAll()
    const read = mappedKilobytes(index)
    const snapshot = async (name: string) => {
      writeFileSync(join(dir, name), '')
      await volume.recordEverything()
      await volume.snapshot(rootFd)
    }
    await snapshot('one more')
    await hand.pass(600)
    // Those that follow one another within less do not put it off.
    await snapshot('another')
    await hand.pass(399)
    t.ok(mappedKilobytes(index) >= read, 'not before')
    await hand.pass(1)
    const left = mappedKilobytes(index)
    t.ok(read > 100 && left < read / 2, `${read} kB when all was read, ${left} left`)
    t.ok(store.blocks.count > 0 && readAll() > 0, 'and it is read again')
  },
)
