import t from 'tap'
import { quickCommand } from '../../lib/cli/quick.js'

t.test('commands that need no argument parser', async (t) => {
  t.same(quickCommand(['snapshot']), { name: 'snapshot', args: [], options: {} })
  t.same(quickCommand(['--home', '/h', 'status', 'dir', '--json']), {
    name: 'status',
    args: ['dir'],
    options: { home: '/h', json: true },
  })
  t.same(quickCommand(['snapshots', '--bootstrap', 'host:1']), {
    name: 'snapshots',
    args: [],
    options: { bootstrap: 'host:1' },
  })
})

t.test('whatever else there is to it is left to the parser', async (t) => {
  for (const line of [
    '',
    'mount dir',
    'snapshot one two',
    'snapshot --tag t',
    'snapshot --help',
    'snapshots -- dir',
    '--home',
    'snapshot --home',
    '--home=/h snapshot',
    'toString',
    '--version',
  ])
    t.equal(quickCommand(line.split(' ').filter(Boolean)), undefined, line)
})
