/** Writes what the fault suite counted last (.cache/faults.jsonl) into docs/FAILURES.md, between its two marks. */
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

const REPORT = '.cache/faults.jsonl'
const PAPER = 'docs/FAILURES.md'
const BEGIN = '<!-- counts -->'
const END = '<!-- /counts -->'

interface Line {
  name: string
  counts: Record<string, number | string>
  at: string
}

const lines = readFileSync(REPORT, 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line) as Line)
const rows = lines.map(({ name, counts }) => {
  const told = Object.entries(counts).map(([what, count]) => `${what} ${count}`)
  return `| ${name} | ${told.join(' · ')} |`
})
const day = lines.at(-1)?.at.slice(0, 10) ?? 'never'
const table = [
  BEGIN,
  '',
  `Of ${day}, on ${availableParallelism()} cores.`,
  '',
  '| suite | counted |',
  '| --- | --- |',
  ...rows,
  '',
  END,
].join('\n')
const paper = readFileSync(PAPER, 'utf8')
const [begin, end] = [paper.indexOf(BEGIN), paper.indexOf(END)]
if (begin === -1 || end === -1) throw new Error(`${PAPER} has no ${BEGIN} and ${END}`)
writeFileSync(PAPER, paper.slice(0, begin) + table + paper.slice(end + END.length))
process.stdout.write(`${rows.length} rows written to ${PAPER}\n`)
