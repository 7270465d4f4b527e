import type { Bench, Measure } from '../bench.ts'
import { inTurn } from '../in-turn.ts'
import { COLD } from '../pool.ts'
import { bareRuns, bestConcurrency } from '../rivals/bare-runs.ts'
import { ratioAtLeast } from '../row.ts'
import { startService } from '../service.ts'
import { atOnce, greet } from '../tool-runs.ts'

const RUNS = 50
/** More than run at once: there is always one that waits. */
const CALLERS = 16
const PAIRS_PER_ROUND = 4

/** Runs a second, without an end: until the last container of a window is gone. */
export const sustainedRuns: Measure = {
  id: 'P4',
  rows: [
    {
      id: 'P4',
      work: 'cold tool runs a second, sustained',
      unit: '/s',
      rival: 'bare engine calls, as many at once as is best',
      goal: ratioAtLeast(1),
    },
  ],
  async run(bench: Bench) {
    const { engine, pairs, signal } = bench
    const concurrency = await bestConcurrency(bench)
    await using service = await startService({ engine, signal, environment: COLD })
    const ours = async () => {
      const runs = await atOnce(RUNS, CALLERS, () => greet(service))
      for (const { container_id } of runs) await engine.gone(container_id)
    }
    const measured = await inTurn(
      {
        ours: { figure: () => rateOf(ours) },
        rival: { figure: () => rateOf(() => bareRuns(bench, RUNS, concurrency)) },
      },
      { rounds: Math.ceil(pairs / PAIRS_PER_ROUND), signal },
    )
    return { P4: { ...measured, notes: [`the rival did best with ${concurrency} at once`] } }
  },
}

async function rateOf(work: () => Promise<void>): Promise<number> {
  const began = performance.now()
  await work()
  return RUNS / ((performance.now() - began) / 1000)
}
