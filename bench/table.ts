/** The bench's table as Markdown: pure. */
import type { Goal, Row, Unit } from './row.ts'
import { median, quantile } from './statistics.ts'

const HEAD = [
  '| # | work | ours: median · p95 · p99 | rival | theirs: median · p95 · p99 | ratio | goal | reached |',
  '| --- | --- | --- | --- | --- | --- | --- | --- |',
]

/** The rows, and below them what has to be known to read them. `reasons` tells why goals are not reached, by row. */
export function renderTable(rows: readonly Row[], reasons: Readonly<Record<string, string>> = {}): string {
  const remarks = rows.flatMap((row) => remarksOf(row, reasons).map((remark) => `- **${row.id}**: ${remark}`))
  return [...HEAD, ...rows.map(renderRow), ...(remarks.length === 0 ? [] : ['', ...remarks]), ''].join('\n')
}

function renderRow(row: Row): string {
  const cells = [
    row.id,
    row.work,
    row.failed === undefined ? told(row.ours, row.unit) : 'not measured',
    row.rival ?? '–',
    row.absent === undefined ? told(row.theirs, row.unit) : 'rival absent',
    row.ratio === undefined ? '–' : decimals(row.ratio),
    row.goal === undefined ? '–' : toldGoal(row.goal, row.unit),
    reached(row),
  ]
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
}

function reached({ goal, reached: isReached }: Row): string {
  if (goal === undefined) return '–'
  if (isReached === undefined) return 'not measured'
  return isReached ? 'yes' : '**no**'
}

function remarksOf(row: Row, reasons: Readonly<Record<string, string>>): string[] {
  const { absent, failed, notes, reached: isReached } = row
  return [
    ...(failed === undefined ? [] : [`not measured: ${oneLine(failed)}`]),
    ...(absent === undefined ? [] : [`rival absent: ${oneLine(absent)}`]),
    ...notes,
    ...(isReached === false ? [`not reached: ${reasons[row.id] ?? 'the reason is not known yet'}`] : []),
  ]
}

/** Median, p95 and p99 with their unit; of less than three values, these. */
export function told(values: readonly number[], unit: Unit): string {
  if (values.length === 0) return '–'
  const shown = values.length < 3 ? values : [median(values), quantile(values, 0.95), quantile(values, 0.99)]
  return `${shown.map(amount).join(' · ')} ${unit}`
}

function toldGoal({ of, at, limit }: Goal, unit: Unit): string {
  return `${at === 'most' ? '≤' : '≥'} ${of === 'ratio' ? `${limit} ×` : `${amount(limit)} ${unit}`}`
}

/** Three digits, of which at most one stands behind the point. */
function amount(value: number): string {
  const rounded = Math.abs(value) < 100 ? Math.round(value * 10) / 10 : Math.round(value)
  return rounded.toLocaleString('en-US')
}

/** As many digits as tell two ratios apart. */
function decimals(ratio: number): string {
  return ratio < 0.1 ? ratio.toPrecision(2) : ratio.toFixed(2)
}

function oneLine(text: string): string {
  return text.trim().replaceAll(/\s*\n\s*/g, ' ')
}
