/** The part of a page that a program writes: between `<!-- NAME -->` and `<!-- /NAME -->`. */
import { readFileSync, writeFileSync } from 'node:fs'

/** Throws where the page has no such marks. */
export function replaceMarked(page: string, name: string, content: string): void {
  const { before, after } = aroundMarked(page, name)
  writeFileSync(page, `${before}\n\n${content.trim()}\n\n${after}`)
}

/** What stands before and behind that part, the marks included; throws where the page has none. */
export function aroundMarked(page: string, name: string): { before: string; after: string } {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const text = readFileSync(page, 'utf8')
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from === -1 || to < from) throw new Error(`${page} has no ${begin} and ${end}`)
  return { before: text.slice(0, from + begin.length), after: text.slice(to) }
}
