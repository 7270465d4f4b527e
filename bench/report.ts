/** What a run of the bench found: kept as JSON, told as a table, written into pages. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { aroundMarked, replaceMarked } from '../scripts/marked.ts'
import { type Machine, toldMachine } from './machine.ts'
import { REASONS } from './reasons.ts'
import type { Row } from './row.ts'
import { renderTable } from './table.ts'

export interface Report {
  at: string
  machine: Machine
  pairs: number
  /** Of all measures, and not interrupted. */
  whole: boolean
  seconds: number
  rows: readonly Row[]
}

/** Where the last run is. */
export const LAST_REPORT = '.cache/bench.json'

const PAGES = ['README.md', 'docs/PERFORMANCE.md']
const MARK = 'bench'

export function renderReport({ at, machine, pairs, seconds, rows }: Report): string {
  const held = rows.filter(({ goal }) => goal !== undefined)
  const reached = held.filter((row) => row.reached === true).length
  return [
    `Of ${at.slice(0, 10)}: ${toldMachine(machine)}.`,
    '',
    `\`--pairs ${pairs}\`, ${Math.round(seconds / 60)} min; ${reached} of ${held.length} goals reached.`,
    '',
    renderTable(rows, REASONS),
  ].join('\n')
}

export async function saveReport(report: Report, files: readonly string[]): Promise<void> {
  for (const file of files) {
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, `${JSON.stringify(report, null, 2)}\n`)
  }
}

export async function readReport(file: string): Promise<Report> {
  return JSON.parse(await readFile(file, 'utf8')) as Report
}

/** Throws where a page has no place for the table: before ten minutes are spent on it. */
export function requirePages(): void {
  for (const page of PAGES) aroundMarked(page, MARK)
}

/** Puts the table of a whole run into the pages that quote it. */
export function writePages(report: Report): void {
  if (!report.whole) throw new Error('pages quote a whole run: this one was of some measures only, or interrupted')
  for (const page of PAGES) replaceMarked(page, MARK, renderReport(report))
}
