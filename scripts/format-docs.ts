/**
 * Keeps docs/format.md true: the layouts in it are the head comments of the codecs, and the methods of the control
 * socket are those of the daemon's schemas. `npm run build && node dist/scripts/format-docs.js` writes them into the document; test/repo/format-docs.test.ts
 * fails when they differ from the code, or when a file with a layout is missing from the document.
 *
 * In the document, a line `<!-- layout: FILE -->` or `<!-- methods -->` is followed by a fenced block that is generated.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { methods } from '../lib/daemon/api.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
export const documentFile = join(root, 'docs/format.md')
const marker = /^<!-- (?:layout: (\S+)|(methods)) -->\n(?:```text\n[\s\S]*?\n```\n)?/gm

/** The text of the comment at the head of a source file. */
export function headOf(file: string): string {
  const source = readFileSync(join(root, file), 'utf8').replace(/^#!.*\n/, '')
  const comment = /^\/\*\*([\s\S]*?)\*\//.exec(source)?.[1] ?? ''
  return comment
    .split('\n')
    .map((line) => line.replace(/^ \* ?/, '').trimEnd())
    .join('\n')
    .trim()
}

/** Files of lib/ whose head gives a byte layout. */
export function filesWithLayouts(): string[] {
  return readdirSync(join(root, 'lib'), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((file) => /\[\d+\.\.|\[0\]|\bu(8|16|32|64)\b/.test(headOf(file)))
    .sort()
}

interface Schema {
  type?: string | string[]
  const?: unknown
  enum?: string[]
  anyOf?: Schema[]
  items?: Schema
  properties?: Record<string, Schema>
  required?: string[]
}

function shape(schema: Schema): string {
  if (schema.enum) return schema.enum.map((value) => `'${value}'`).join(' | ')
  if (schema.anyOf) return schema.anyOf.map(shape).join(' | ')
  if (schema.type === 'array') return `[${shape(schema.items ?? {})}]`
  if (schema.type !== 'object') return [schema.type ?? 'any'].flat().join(' | ')
  const keys = Object.entries(schema.properties ?? {}).map(([key, value]) => {
    const optional = schema.required?.includes(key) ? '' : '?'
    return `${key}${optional}: ${shape(value)}`
  })
  return `{${keys.join(', ')}}`
}

/** Breaks a long shape at its commas, under an indent. */
function wrap(text: string, indent: string): string {
  const lines: string[] = []
  let line = ''
  for (const part of text.split(/(?<=, )/)) {
    if (line.length + part.length > 100 && line !== '') {
      lines.push(line.trimEnd())
      line = indent
    }
    line += part
  }
  return [...lines, line].join('\n')
}

/** Every method: its parameters, then its result. */
export function describeMethods(): string {
  return Object.entries(methods)
    .map(([name, { params, result }]) => {
      const [from, to] = [params, result].map((schema) =>
        shape(z.toJSONSchema(schema, { io: 'input' }) as Schema),
      )
      return `${name}\n${wrap(`    params ${from}`, '      ')}\n${wrap(`    result ${to}`, '      ')}`
    })
    .join('\n')
}

/** The document with its generated blocks as the code has them now. */
export function refreshed(document: string): string {
  return document.replace(marker, (_, file: string | undefined) => {
    const head = file === undefined ? '<!-- methods -->' : `<!-- layout: ${file} -->`
    const block = file === undefined ? describeMethods() : headOf(file)
    return `${head}\n\`\`\`text\n${block}\n\`\`\`\n`
  })
}

export function namedFiles(document: string): string[] {
  return [...document.matchAll(marker)].flatMap(([, file]) => (file === undefined ? [] : [file])).sort()
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  writeFileSync(documentFile, refreshed(readFileSync(documentFile, 'utf8')))
