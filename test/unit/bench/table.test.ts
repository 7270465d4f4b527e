import { describe, expect, it } from 'vitest'
import { atMost, type Outcome, type RowPlan, ratioAtLeast, ratioAtMost, rowOf } from '../../../bench/row.ts'
import { renderTable, told } from '../../../bench/table.ts'

const PLAN: RowPlan = { id: 'P1', work: 'a run', unit: 'ms', rival: 'docker run', goal: ratioAtMost(0.5) }

/** The cells of the only row, and the remarks below it. */
function rendered(plan: RowPlan, outcome: Outcome | undefined, reasons: Record<string, string> = {}) {
  const lines = renderTable([rowOf(plan, outcome)], reasons).split('\n')
  const cells = (lines[2] ?? '').split(' | ').map((cell) => cell.replaceAll(/^\| | \|$/g, ''))
  return { cells, remarks: lines.filter((line) => line.startsWith('- ')) }
}

describe('a row', () => {
  it('tells median, p95 and p99 of both, the ratio of the pairs, and that the goal is reached', () => {
    const { cells, remarks } = rendered(PLAN, { ours: [20, 30, 40], rival: [200, 300, 400] })
    expect(cells).toEqual([
      'P1',
      'a run',
      '30 · 39 · 39.8 ms',
      'docker run',
      '300 · 390 · 398 ms',
      '0.10',
      '≤ 0.5 ×',
      'yes',
    ])
    expect(remarks).toEqual([])
  })

  it('says so where the goal is not reached, and why', () => {
    const slow = { ours: [300], rival: [200] }
    expect(rendered(PLAN, slow).cells.at(-1)).toBe('**no**')
    expect(rendered(PLAN, slow).remarks).toEqual(['- **P1**: not reached: the reason is not known yet'])
    expect(rendered(PLAN, slow, { P1: 'it sleeps' }).remarks).toEqual(['- **P1**: not reached: it sleeps'])
  })

  it('gives no reason where the goal is reached', () => {
    expect(rendered(PLAN, { ours: [1], rival: [200] }, { P1: 'it sleeps' }).remarks).toEqual([])
  })

  it('tells an absent rival, and that nothing is known of a goal beside it', () => {
    const { cells, remarks } = rendered(PLAN, { ours: [20], rival: { absent: 'no docker\ncommand' } })
    expect(cells.slice(2)).toEqual(['20 ms', 'docker run', 'rival absent', '–', '≤ 0.5 ×', 'not measured'])
    expect(remarks).toEqual(['- **P1**: rival absent: no docker command'])
  })

  it('judges a goal without a rival by the median, also where the rival is absent', () => {
    const plan = { ...PLAN, goal: atMost(25) }
    expect(rendered(plan, { ours: [20, 20, 90], rival: { absent: 'gone' } }).cells.at(-1)).toBe('yes')
    expect(rendered(plan, { ours: [30] }).cells.slice(-2)).toEqual(['≤ 25 ms', '**no**'])
  })

  it('takes more as better where the goal is a lower bound', () => {
    const plan: RowPlan = { ...PLAN, unit: '/s', goal: ratioAtLeast(1) }
    expect(rendered(plan, { ours: [9], rival: [10] }).cells.at(-1)).toBe('**no**')
    expect(rendered(plan, { ours: [10], rival: [10] }).cells.slice(-2)).toEqual(['≥ 1 ×', 'yes'])
  })

  it('is there where its measure failed or told nothing of it', () => {
    const failed = rendered(PLAN, { failed: 'the engine\n  went away' })
    expect(failed.cells.slice(2)).toEqual(['not measured', 'docker run', '–', '–', '≤ 0.5 ×', 'not measured'])
    expect(failed.remarks).toEqual(['- **P1**: not measured: the engine went away'])
    expect(rendered(PLAN, undefined).remarks).toEqual(['- **P1**: not measured: not measured'])
  })

  it('has no goal where none is set, and does not break on what ends a cell', () => {
    const { cells } = rendered({ id: 'P2', work: 'a | b', unit: 'ms' }, { ours: [1] })
    expect(cells).toEqual(['P2', 'a \\| b', '1 ms', '–', '–', '–', '–', '–'])
  })

  it('passes on notes, and a ratio that the measure took itself', () => {
    const { cells, remarks } = rendered(PLAN, { ours: [1], rival: [1], ratio: 0.123, notes: ['all cold'] })
    expect(cells[5]).toBe('0.12')
    expect(remarks).toEqual(['- **P1**: all cold'])
  })
})

describe('a figure', () => {
  it('has three digits, and single values where there are few', () => {
    expect(told([2.345], 'ms')).toBe('2.3 ms')
    expect(told([99_123.4, 1], 'ms')).toBe('99,123 · 1 ms')
    expect(told([], 'ms')).toBe('–')
  })

  it('tells small ratios apart', () => {
    expect(renderTable([rowOf(PLAN, { ours: [1], rival: [400] })])).toContain('| 0.0025 |')
  })
})
