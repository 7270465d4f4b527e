/**
 * Ours and the rivals' side by side, by turns and in one run, as one table:
 *
 *     npm run bench [-- --only P1,P6] [--pairs 10] [--json FILE] [--write] [--from FILE]
 *
 * What it measures, and what the figures mean, is in docs/PERFORMANCE.md. Exit status 1 where a measure
 * failed; a goal that is not reached is told in the table. Whatever it makes it removes again, also
 * when it is interrupted.
 */
import { randomUUID } from 'node:crypto'
import { BareEngine } from './bare-engine.ts'
import type { Bench, Measure } from './bench.ts'
import { type Machine, readMachine } from './machine.ts'
import { MEASURES } from './measures/all.ts'
import { type Options, parseOptions } from './options.ts'
import { LAST_REPORT, type Report, readReport, renderReport, requirePages, saveReport, writePages } from './report.ts'
import { type Outcome, type Row, rowOf } from './row.ts'

const LABEL = 'container-orchestrator-bench'
/** A measure that lasts longer is stuck. */
const MEASURE_DEADLINE_MS = 600_000
const INTERRUPTED_STATUS = 130

const options = parseOptions(
  process.argv.slice(2),
  MEASURES.map(({ id }) => id),
)
if (options.write) requirePages()
const report = options.from === undefined ? await measureAll(options) : await readReport(options.from)
process.stdout.write(`${renderReport(report)}\n`)
if (options.write) writePages(report)
if (options.from === undefined && report.rows.some(({ failed }) => failed !== undefined)) process.exitCode ||= 1

async function measureAll({ only, pairs, json }: Options): Promise<Report> {
  const began = performance.now()
  const interruption = interruptible()
  const undo: (() => Promise<void>)[] = []
  const made = new Map<string, Promise<unknown>>()
  const label = [LABEL, `co-bench-${randomUUID().slice(0, 8)}`] as const
  const engine = new BareEngine()
  try {
    const machine: Machine = await readMachine(interruption)
    const rows: Row[] = []
    for (const measure of MEASURES.filter(({ id }) => only === null || only.includes(id))) {
      const signal = AbortSignal.any([interruption, AbortSignal.timeout(MEASURE_DEADLINE_MS)])
      const once: Bench['once'] = (key, make) => {
        const promise = (made.get(key) ?? make()) as ReturnType<typeof make>
        made.set(key, promise)
        return promise
      }
      const outcomes = await outcomesOf(measure, {
        pairs,
        engine,
        label,
        signal,
        once,
        atEnd: (work) => undo.push(work),
      })
      rows.push(...measure.rows.map((plan) => rowOf(plan, outcomes[plan.id])))
    }
    const seconds = (performance.now() - began) / 1000
    const whole = only === null && !interruption.aborted
    const report = { at: new Date().toISOString(), machine, pairs, whole, seconds, rows }
    await saveReport(report, [LAST_REPORT, ...(json === undefined ? [] : [json])])
    return report
  } finally {
    await engine.sweep(label.join('='))
    await engine.sweepNetworks(label[1])
    for (const work of undo) await work()
    await engine[Symbol.asyncDispose]()
  }
}

/** What a measure found; where it failed, all of its rows say so, and the others go on. */
async function outcomesOf(measure: Measure, bench: Bench): Promise<Record<string, Outcome>> {
  const began = performance.now()
  process.stderr.write(`bench: ${measure.id} …`)
  try {
    bench.signal.throwIfAborted()
    const outcomes = await measure.run(bench)
    process.stderr.write(` ${((performance.now() - began) / 1000).toFixed(0)} s\n`)
    return outcomes
  } catch (error) {
    const message = failureOf(error as Error, bench.signal)
    process.stderr.write(` failed: ${message}\n`)
    return Object.fromEntries(measure.rows.map(({ id }) => [id, { failed: message }]))
  } finally {
    await bench.engine.sweep(bench.label.join('=')).catch(() => {})
  }
}

/** Why a measure failed: what fails of an aborted one fails for the abort's sake. */
function failureOf(error: Error, signal: AbortSignal): string {
  if (!signal.aborted) return error.message
  const reason = signal.reason as Error
  return reason.name === 'TimeoutError' ? `it took more than ${MEASURE_DEADLINE_MS / 1000} s` : reason.message
}

/** Aborts with the first Ctrl-C, or an error that nobody caught: what was begun is undone, and what was measured is told. */
function interruptible(): AbortSignal {
  const interruption = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      process.exitCode = INTERRUPTED_STATUS
      interruption.abort(new Error('interrupted'))
    })
  }
  for (const name of ['unhandledRejection', 'uncaughtException'] as const) {
    process.on(name, (error: unknown) => {
      process.exitCode = 1
      interruption.abort(error)
    })
  }
  return interruption.signal
}
