/** Questions to the person in front, on the terminal only. */
import { createInterface } from 'node:readline'
import { KithError } from '../base/errors.js'

/** One line of answer, trimmed; the end of input is no answer. Throws `usage` when nobody is there to ask. */
export function ask(question: string): Promise<string> {
  if (process.stdin.isTTY !== true) {
    throw new KithError('usage', 'this asks a question, and input is no terminal; give --yes to answer it')
  }
  return new Promise((resolve) => {
    const lines = createInterface({ input: process.stdin, output: process.stderr })
    lines.on('SIGINT', () => lines.close())
    lines.on('close', () => resolve(''))
    lines.question(question, (answer) => {
      resolve(answer.trim())
      lines.close()
    })
  })
}
