/** Paths of any bytes as text for messages: valid UTF-8 as it is, all else and control characters as `\xNN`. */

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function isControl(code: number): boolean {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code === 0x5c
}

function escapeByte(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, '0')}`
}

export function nameText(name: Buffer): string {
  let text: string
  try {
    text = decoder.decode(name)
  } catch {
    return [...name]
      .map((byte) => (byte >= 0x80 || isControl(byte) ? escapeByte(byte) : String.fromCharCode(byte)))
      .join('')
  }
  return [...text]
    .map((character) => {
      const code = character.codePointAt(0) ?? 0
      return isControl(code) ? [...Buffer.from(character)].map(escapeByte).join('') : character
    })
    .join('')
}

/** Long paths lose their middle: the message stays one line. */
export function pathText(names: readonly Buffer[]): string {
  const text = names.map(nameText).join('/')
  return text.length <= 1024 ? text : `${text.slice(0, 500)} ... ${text.slice(-500)}`
}

/** Whether a name is valid UTF-8: JSON can hold it as it is. */
export function isText(name: Buffer): boolean {
  try {
    decoder.decode(name)
    return true
  } catch {
    return false
  }
}

/** The bytes of a name as nameText writes it; undefined where nothing in it is written as `\xNN`. */
export function parseNameText(text: string): Buffer | undefined {
  const parts = text.split(/\\x([0-9a-fA-F]{2})/)
  if (parts.length === 1) return undefined
  return Buffer.concat(
    parts.map((part, i) => (i % 2 === 0 ? Buffer.from(part) : Buffer.from([parseInt(part, 16)]))),
  )
}
