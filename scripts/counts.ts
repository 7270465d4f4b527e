/**
 * Writes what a long suite counted last (.cache/SUITE.jsonl) into its page, between two marks:
 * `counts.ts SUITE PAGE [SCALE]`. SCALE says in words how much of the full numbers that was.
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { replaceMarked } from './marked.ts'

const [suite, page, scale] = process.argv.slice(2)
if (suite === undefined || page === undefined) throw new Error('usage: counts.ts SUITE PAGE [SCALE]')

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
  `Of ${day}, on ${availableParallelism()} cores${scale === undefined ? '' : `, ${scale}`}.`,
  '',
  '| suite | counted |',
  '| --- | --- |',
  ...rows,
].join('\n')
replaceMarked(page, 'counts', table)
process.stdout.write(`${rows.length} rows written to ${page}\n`)
