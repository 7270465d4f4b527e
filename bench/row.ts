/** One row of the table: what is measured, what it should be, and what it was. Pure. */
import { median, ratioOf } from './statistics.ts'

export type Unit = 'ms' | 'MiB' | '/s' | 'runs'

/** What a row is held to: `median` in its unit, or `ratio` to the rival. */
export interface Goal {
  of: 'ratio' | 'value'
  at: 'most' | 'least'
  limit: number
}

export interface RowPlan {
  /** Begins with the measure's: `P1`, `P1 tail`. */
  id: string
  work: string
  unit: Unit
  rival?: string
  goal?: Goal
}

export interface Measured {
  ours: readonly number[]
  rival?: readonly number[] | { absent: string }
  /** Where it is not the median of the pairs' ratios. */
  ratio?: number
  notes?: readonly string[]
}

/** A row that could not be measured says why. */
export type Outcome = Measured | { failed: string }

export interface Row extends RowPlan {
  ours: readonly number[]
  theirs: readonly number[]
  /** Undefined where there is nobody to compare with. */
  ratio: number | undefined
  /** Undefined where there is no goal, or not the means to tell. */
  reached: boolean | undefined
  failed: string | undefined
  /** Why there is nothing of the rival. */
  absent: string | undefined
  notes: readonly string[]
}

export function rowOf(plan: RowPlan, outcome: Outcome | undefined): Row {
  const nothing = { ...plan, ours: [], theirs: [], ratio: undefined, reached: undefined, absent: undefined, notes: [] }
  if (outcome === undefined) return { ...nothing, failed: 'not measured' }
  if ('failed' in outcome) return { ...nothing, failed: outcome.failed }
  const { ours, rival, notes = [] } = outcome
  const absent = rival !== undefined && 'absent' in rival ? rival.absent : undefined
  const theirs = rival === undefined || 'absent' in rival ? [] : rival
  const ratio = theirs.length === 0 ? undefined : (outcome.ratio ?? ratioOf(ours, theirs))
  return { ...plan, ours, theirs, ratio, reached: isReached(plan.goal, ours, ratio), failed: undefined, absent, notes }
}

function isReached(goal: Goal | undefined, ours: readonly number[], ratio: number | undefined): boolean | undefined {
  const value = goal?.of === 'ratio' ? ratio : median(ours)
  if (goal === undefined || value === undefined || Number.isNaN(value)) return undefined
  return goal.at === 'most' ? value <= goal.limit : value >= goal.limit
}

export function ratioAtMost(limit: number): Goal {
  return { of: 'ratio', at: 'most', limit }
}

export function ratioAtLeast(limit: number): Goal {
  return { of: 'ratio', at: 'least', limit }
}

export function atMost(limit: number): Goal {
  return { of: 'value', at: 'most', limit }
}
