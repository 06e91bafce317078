/**
 * The recovery phrase: 24 English words by BIP39 (256 bits of entropy, 8 bits of checksum). It is shown once, kept by
 * the user on paper, and opens everything: see keys.ts. What is typed back may differ in case and spacing, and may carry
 * the numbers of a written list ("1. abandon"). Messages name positions, never words: they may end in a log.
 */
import { entropyToMnemonic, mnemonicToEntropy } from '@scure/bip39'
import { wordlist } from '@scure/bip39/wordlists/english.js'
import { KithError } from '../base/errors.js'
import { randomBytes } from '../base/random.js'

export const phraseWords = 24

/** No phrase is longer: 24 words of at most 8 letters, with numbering and generous spacing. */
const maxPhraseLength = 4096

const words = new Set(wordlist)

export function newPhrase(): string {
  return phraseOf(randomBytes(32))
}

/** The phrase of 32 bytes of entropy. */
export function phraseOf(entropy: Buffer): string {
  return entropyToMnemonic(entropy, wordlist)
}

/** The 32 bytes of entropy of a phrase. Throws KithError `badPhrase` that says what is wrong with it. */
export function parsePhrase(text: string): Buffer {
  if (text.length > maxPhraseLength) throw bad(`it is longer than ${phraseWords} words can be`)
  const given = text
    .normalize('NFKD')
    .toLowerCase()
    .split(/[\s,]+/u)
    .map((word) => word.replace(/^\d+[.):]?/u, ''))
    .filter((word) => word !== '')
  if (given.length !== phraseWords) throw bad(`it has ${given.length} words, and needs ${phraseWords}`)
  const unknown = given.flatMap((word, i) => (words.has(word) ? [] : [i + 1]))
  if (unknown.length > 0) {
    const which = unknown.length === 1 ? `word ${unknown[0]} is` : `words ${unknown.join(', ')} are`
    throw bad(`${which} not in the word list; check the spelling`)
  }
  try {
    return Buffer.from(mnemonicToEntropy(given.join(' '), wordlist))
  } catch {
    throw bad(
      'its checksum does not fit: a word is wrong or two are swapped; compare it with what you wrote down',
    )
  }
}

function bad(reason: string): KithError {
  return new KithError('badPhrase', `this is not a recovery phrase: ${reason}`)
}
