import t from 'tap'
import { parseMountinfo } from '../../lib/mount/mount-table.js'

t.test('lines of mountinfo', async (t) => {
  const text = [
    '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw',
    '45 22 0:40 / /home/a\\040b\\134c\\011d\\012e rw,nosuid,nodev - fuse.kith kith rw,user_id=0',
    '46 22 0:41 / /x rw shared:2 master:3 propagate_from:4 - tmpfs none rw',
    'garbage',
    '47 22 0:42 / /no-dash rw',
    '',
  ].join('\n')
  t.same(parseMountinfo(text), [
    { id: '22', device: '8:1', root: '/', mountpoint: '/', type: 'ext4' },
    { id: '45', device: '0:40', root: '/', mountpoint: '/home/a b\\c\td\ne', type: 'fuse.kith' },
    { id: '46', device: '0:41', root: '/', mountpoint: '/x', type: 'tmpfs' },
  ])
})
