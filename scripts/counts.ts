/**
 * Writes what a long suite counted last (.cache/SUITE.jsonl) into its page, between two marks:
 * `counts.ts SUITE PAGE [SCALE]`. SCALE says in words how much of the full numbers that was.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

const [suite, page, scale] = process.argv.slice(2)
if (suite === undefined || page === undefined) throw new Error('usage: counts.ts SUITE PAGE [SCALE]')
const BEGIN = '<!-- counts -->'
const END = '<!-- /counts -->'

interface Line {
  name: string
  counts: Record<string, number | string>
  at: string
}

const lines = readFileSync(`.cache/${suite}.jsonl`, 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line) as Line)
// Of a file that was run again, the last word.
const latest = [...new Map(lines.map((line) => [line.name, line])).values()]
const rows = latest.map(({ name, counts }) => {
  const told = Object.entries(counts).map(([what, count]) => `${what} ${count}`)
  return `| ${name} | ${told.join(' · ')} |`
})
const day = lines.at(-1)?.at.slice(0, 10) ?? 'never'
const table = [
  BEGIN,
  '',
  `Of ${day}, on ${availableParallelism()} cores${scale === undefined ? '' : `, ${scale}`}.`,
  '',
  '| suite | counted |',
  '| --- | --- |',
  ...rows,
  '',
  END,
].join('\n')
const text = readFileSync(page, 'utf8')
const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)]
if (begin === -1 || end === -1) throw new Error(`${page} has no ${BEGIN} and ${END}`)
writeFileSync(page, text.slice(0, begin) + table + text.slice(end + END.length))
process.stdout.write(`${rows.length} rows written to ${page}\n`)
