// Runs several compiled test files in this process, one after the other, for scripts/test.mjs: half of what a small file takes
// is the start of a process that loads tap and the modules it tests.
//   node scripts/test-together.mjs FILE ...
// After each file comes a subtest with its name, by which test.mjs knows what belongs to it and that it came to its end.
import { clearInterval, setInterval } from 'node:timers'
import { pathToFileURL } from 'node:url'

const files = process.argv.slice(2)
// tap names the directories of tests by what runs: as if that were the first file.
process.argv = [process.argv[0], files[0]]
const { default: t } = await import('../dist/test/node_modules/tap/index.js')

// A file's bound for itself would be one for all of them; test.mjs has one for the whole.
t.setTimeout = () => undefined
// tap would end as soon as it has nothing to do once a file had given it something to do at the end: that is done for each file.
const endings = []
t.teardown = (ending) => endings.unshift(ending)
const busy = setInterval(() => undefined, 2 ** 30)

for (const file of files) {
  try {
    await import(pathToFileURL(file).href)
  } catch (error) {
    t.fail('it can be loaded', { error: error?.stack ?? String(error) })
  }
  await t.test(`end of ${file}`, async () => {
    for (const ending of endings.splice(0)) await ending()
  })
}
clearInterval(busy)
