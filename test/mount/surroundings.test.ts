import t from 'tap'
import { parseMountinfo } from '../../lib/mount/mount-table.js'
import { mountpointsBelow, sameFiles } from '../../lib/mount/surroundings.js'

const table = parseMountinfo(
  [
    '1 0 8:1 / / rw - ext4 /dev/root rw',
    '2 1 8:1 /home/ann/photos /mnt/photos rw - ext4 /dev/root rw',
    '3 1 8:2 / /data rw - ext4 /dev/two rw',
    '4 3 8:2 /sub /data/again rw - ext4 /dev/two rw',
    '5 1 0:9 / /home/ann rw - fuse.kith kith rw',
    '6 5 0:10 / /home/ann/usb rw - vfat /dev/stick rw',
    '7 6 0:11 / /home/ann/usb rw - tmpfs none rw',
  ].join('\n'),
)

t.test('mount points below', async (t) => {
  t.same(mountpointsBelow(table, '/home/ann'), ['/home/ann/usb'], 'each once')
  t.same(mountpointsBelow(table, '/home/an'), [])
  t.same(mountpointsBelow(table, '/data/again'), [], 'not itself')
})

t.test('the same files by another name', async (t) => {
  for (const [one, other, same] of [
    ['/home/ann', '/mnt/photos', true],
    ['/home/ann/photos', '/mnt/photos/2024', true],
    ['/home/ann/music', '/mnt/photos', false],
    ['/home/annex', '/mnt/photos', false],
    ['/data', '/data/again', true],
    ['/data/sub/x', '/data/again/x', true],
    ['/data/sub', '/home/ann', false],
    ['/', '/mnt/photos', true],
  ] as const) {
    t.equal(sameFiles(table, one, other), same, `${one} and ${other}`)
    t.equal(sameFiles(table, other, one), same, `${other} and ${one}`)
  }
})
