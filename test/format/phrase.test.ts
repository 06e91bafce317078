import t from 'tap'
import { KithError } from '../../lib/base/errors.js'
import { deriveIdentity } from '../../lib/format/keys.js'
import { newPhrase, parsePhrase, phraseOf } from '../../lib/format/phrase.js'

/** From the BIP39 reference vectors: 32 bytes of 0x7f. */
const vector =
  'legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth title'

function refusal(phrase: string): string {
  try {
    parsePhrase(phrase)
  } catch (error) {
    if (error instanceof KithError && error.code === 'badPhrase') return error.message
    throw error
  }
  return 'accepted'
}

t.test('a reference vector', (t) => {
  t.same(parsePhrase(vector), Buffer.alloc(32, 0x7f))
  t.equal(phraseOf(Buffer.alloc(32, 0x7f)), vector)
  t.end()
})

t.test('new phrases have 24 words, differ, and come back', (t) => {
  const phrases = Array.from({ length: 20 }, newPhrase)
  t.equal(new Set(phrases).size, 20)
  for (const phrase of phrases) {
    t.equal(phrase.split(' ').length, 24)
    t.equal(phraseOf(parsePhrase(phrase)), phrase)
  }
  t.end()
})

t.test('case, spacing, line ends and the numbers of a list do not matter', (t) => {
  const words = vector.split(' ')
  const forms = [
    `  ${vector.toUpperCase()}\n`,
    words.join('\r\n\t '),
    words.map((word, i) => `${i + 1}. ${word}`).join('\n'),
    words.map((word, i) => `${i + 1}) ${word},`).join(' '),
  ]
  for (const form of forms) t.same(parsePhrase(form), Buffer.alloc(32, 0x7f))
  t.end()
})

t.test('what is wrong is said, and no word of it', (t) => {
  const words = vector.split(' ')
  t.match(refusal(words.slice(1).join(' ')), /23 words, and needs 24/)
  t.match(refusal(''), /0 words/)
  t.match(refusal('a '.repeat(4000)), /longer than 24 words can be/)
  const misspelt = words.with(6, 'wurst').with(23, 'zzz')
  t.match(refusal(misspelt.join(' ')), /words 7, 24 are not in the word list/)
  t.match(refusal(words.with(2, 'thunk').join(' ')), /word 3 is not in the word list/)
  t.match(refusal(words.with(23, 'zoo').join(' ')), /checksum does not fit/)
  for (const bad of [misspelt, words.with(23, 'zoo')])
    t.notMatch(refusal(bad.join(' ')), /wurst|zzz|zoo|legal/)
  t.end()
})

t.test('the identity follows from the phrase alone', (t) => {
  const one = deriveIdentity(parsePhrase(vector))
  const again = deriveIdentity(parsePhrase(vector.toUpperCase()))
  t.same(again, one)
  const parts = [one.seed, one.kek, one.id, one.rendezvous].map((part) => part.toString('hex'))
  t.equal(new Set(parts).size, 4)
  t.same(parts.slice(2), [
    'b8bac78a94d46ee41f5f265163b60a23113fc3406c72ab58b724ddc2f0650b51',
    '49d9bcde0431716d74bd681439bfc4fdff4a5e20520705da944bd03c69ec7c1e',
  ])
  t.end()
})
