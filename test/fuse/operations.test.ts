// The cases of test/fuse/programs: what the mount answers is what the bare directory beside it answers, errno by errno.
import t from 'tap'
import { mountForTest, ran, testProgram } from '../helpers/fuse-mount.js'

type Said = [name: string, lines: string[][]]

async function casesIn(program: string, dir: string): Promise<Map<string, string[][]>> {
  const printed = await ran('python3', [testProgram(program), dir])
  const lines = printed.trim().split('\n')
  return new Map(lines.map((line) => JSON.parse(line) as Said))
}

t.setTimeout(280_000)

t.test('every operation on every kind of file, as every kind of caller', async (t) => {
  const mount = await mountForTest(t)
  const lines = async (dir: string) =>
    (await ran('python3', [testProgram('callers.py'), dir])).trim().split('\n')
  const [bare, mounted] = await Promise.all([lines(mount.bare), lines(mount.dir)])
  t.ok(bare.length > 6000)
  t.equal(mounted.length, bare.length)
  const different = mounted.flatMap((line, i) =>
    line === bare[i] ? [] : [`mount ${line}\nbare  ${bare[i]}`],
  )
  t.same(different.slice(0, 20), [])
  t.equal(mount.log, '')
})

for (const program of ['names.py', 'attributes.py', 'data.py'])
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
