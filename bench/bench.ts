/** What every measure is given, and what every measure is. */
import type { BareEngine } from './bare-engine.ts'
import type { Outcome, RowPlan } from './row.ts'

export interface Bench {
  /** Rounds of a measure of single runs; others are told in terms of it. */
  readonly pairs: number
  readonly engine: BareEngine
  /** Of all that rivals make: name and value. */
  readonly label: readonly [name: string, value: string]
  /** Aborts where the bench is interrupted, or the measure lasts too long. */
  readonly signal: AbortSignal
  /** What one measure made and another can use, such as a store with many runs; made once. */
  readonly once: <T>(key: string, make: () => Promise<T>) => Promise<T>
  /** Called before the bench ends. */
  readonly atEnd: (undo: () => Promise<void>) => void
}

export interface Measure {
  id: string
  rows: readonly RowPlan[]
  /** Outcomes by the ids of its rows. */
  run(bench: Bench): Promise<Record<string, Outcome>>
}

/** Of fewer, the median is one day's mood. */
const LEAST_ROUNDS = 10

/** Rounds of a measure that takes longer than a single run: one for so many pairs. */
export function roundsOf(pairs: number, pairsPerRound: number): number {
  return Math.max(LEAST_ROUNDS, Math.ceil(pairs / pairsPerRound))
}

/** The label as an object, as engines take it. */
export function labelsOf({ label: [name, value] }: Pick<Bench, 'label'>): Record<string, string> {
  return { [name]: value }
}
