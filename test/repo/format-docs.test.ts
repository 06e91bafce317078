import t from 'tap'
import { readFileSync } from 'node:fs'
import { documentFile, filesWithLayouts, headOf, namedFiles, refreshed } from '../../scripts/format-docs.js'

const document = readFileSync(documentFile, 'utf8')

t.test(
  'docs/format.md says what the code says; node dist/scripts/format-docs.js brings it up to date',
  (t) => {
    t.equal(refreshed(document), document)
    t.end()
  },
)

t.test('every layout of lib/ is in it', (t) => {
  t.same(namedFiles(document), filesWithLayouts())
  t.end()
})

t.test('heads are found', (t) => {
  t.match(headOf('lib/format/seal.ts'), /\[4\.\.8\) +length of the plaintext/)
  t.end()
})
