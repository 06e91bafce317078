// The cases of test/fuse/programs: what the mount answers is what the bare directory beside it answers, errno by errno.
import t from 'tap'
import { mountForTest, ran, testProgram } from '../helpers/fuse-mount.js'

type Said = [name: string, lines: string[][]]

async function casesIn(program: string, dir: string): Promise<Map<string, string[][]>> {
  const printed = await ran('python3', [testProgram(program), dir])
  const lines = printed.trim().split('\n')
  return new Map(lines.map((line) => JSON.parse(line) as Said))
}

t.setTimeout(560_000)

for (const program of ['names.py', 'attributes.py', 'acls.py', 'data.py', 'locks.py'])
  t.test(program, async (t) => {
    const mount = await mountForTest(t)
    const bare = await casesIn(program, mount.bare)
    const mounted = await casesIn(program, mount.dir)
    t.same([...mounted.keys()], [...bare.keys()])
    for (const [name, said] of mounted) {
      t.same(said, bare.get(name), name)
      t.same(
        said.filter(([word]) => word === "'WRONG'"),
        [],
        `${name}: nothing wrong`,
      )
    }
    t.equal(mount.log, '')
  })
