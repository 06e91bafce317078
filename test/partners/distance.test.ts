import t from 'tap'
import { distanceOf, prefixOf } from '../../lib/partners/distance.js'

t.test('prefixes: /24 and /48; loopback and what is no address say nothing', (t) => {
  t.equal(prefixOf('203.0.113.7'), '203.0.113.0/24')
  t.equal(prefixOf('::ffff:203.0.113.7'), '203.0.113.0/24')
  t.equal(prefixOf('2001:db8:7::1'), '2001:db8:7::/48')
  t.equal(prefixOf('2001:0db8:0007:1:2:3:4:5'), '2001:db8:7::/48')
  t.equal(prefixOf('fe80::1%eth0'), 'fe80:0:0::/48')
  for (const nothing of ['127.0.0.1', '::1', 'somewhere', '', undefined]) t.equal(prefixOf(nothing), null)
  t.end()
})

t.test('near and far', (t) => {
  const own = ['127.0.0.1', '192.168.1.5', '203.0.113.7', '2001:db8:7::1']
  const cases: [string | undefined, number | undefined, 'near' | 'far' | null][] = [
    ['127.0.0.1', 200, 'near'],
    ['192.168.1.9', undefined, 'near'],
    ['192.168.1.9', 120, 'far'], // the same numbers behind a tunnel
    ['203.0.113.200', 1, 'near'],
    ['203.0.114.7', 1, 'far'],
    ['10.0.0.1', 2, 'near'],
    ['10.0.0.1', 30, 'far'],
    ['172.16.3.4', undefined, 'near'],
    ['172.32.3.4', undefined, 'far'],
    ['2001:db8:7:9::2', undefined, 'near'],
    ['2001:db8:8::2', undefined, 'far'],
    [undefined, 3, null],
    ['', 3, null],
  ]
  for (const [host, rtt, wanted] of cases) t.equal(distanceOf(host, own, rtt), wanted, `${host} ${rtt} ms`)
  t.end()
})
