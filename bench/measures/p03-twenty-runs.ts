import type { Bench, Measure } from '../bench.ts'
import { inTurn } from '../in-turn.ts'
import { coldNotes, parking, prime, untilParked } from '../pool.ts'
import { bareRuns, bestConcurrency } from '../rivals/bare-runs.ts'
import { ratioAtMost } from '../row.ts'
import { startService } from '../service.ts'
import { atOnce, greet, type Run } from '../tool-runs.ts'

const RUNS = 20
const PAIRS_PER_ROUND = 3

/** Twenty runs that are asked for in one moment, with as many parked containers. */
export const twentyRuns: Measure = {
  id: 'P3',
  rows: [
    {
      id: 'P3',
      work: '20 tool runs at once, 20 parked: until the last is answered',
      unit: 'ms',
      rival: 'bare engine calls, as many at once as is best',
      goal: ratioAtMost(0.3),
    },
  ],
  async run(bench: Bench) {
    const { engine, pairs, signal } = bench
    const concurrency = await bestConcurrency(bench)
    const environment = { ...parking(RUNS), CO_MAX_CONCURRENT_RUNS: String(RUNS) }
    await using service = await startService({ engine, signal, environment })
    await prime(service, RUNS)
    const runs: Run[] = []
    const ours = {
      run: async () => {
        runs.push(...(await atOnce(RUNS, RUNS, () => greet(service))))
      },
      settle: async () => {
        for (const { container_id } of runs.slice(-RUNS)) await engine.gone(container_id)
        await untilParked(service, RUNS)
      },
    }
    const rival = { run: () => bareRuns(bench, RUNS, concurrency) }
    const measured = await inTurn({ ours, rival }, { rounds: Math.ceil(pairs / PAIRS_PER_ROUND), signal })
    const notes = [`the rival did best with ${concurrency} at once`, ...coldNotes(runs.slice(RUNS))]
    return { P3: { ...measured, notes } }
  },
}
