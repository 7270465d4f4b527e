import { bestConcurrency, millisecondsOf, PROBE_RUNS } from '../at-best.ts'
import { type Bench, type Measure, roundsOf } from '../bench.ts'
import { inTurn } from '../in-turn.ts'
import { COLD } from '../pool.ts'
import { BARE_RUNS, bareRunsAtBest } from '../rivals/bare-runs.ts'
import { ratioAtLeast } from '../row.ts'
import { type BenchService, startService } from '../service.ts'
import { atOnce, gone, greet } from '../tool-runs.ts'

const RUNS = 50
/** More than run at once: there is always one that waits. */
const CALLERS = 32
const PAIRS_PER_ROUND = 4

/** Runs a second, without an end: until the last container of a window is gone. */
export const sustainedRuns: Measure = {
  id: 'P4',
  rows: [
    {
      id: 'P4',
      work: 'cold tool runs a second, sustained',
      unit: '/s',
      rival: BARE_RUNS,
      goal: ratioAtLeast(1),
    },
  ],
  async run(bench: Bench) {
    const { engine, pairs, signal } = bench
    const rival = await bareRunsAtBest(bench, RUNS)
    const runs = async (service: BenchService, count: number) =>
      gone(engine, await atOnce(count, CALLERS, () => greet(service)))
    const concurrency = await bestConcurrency(async (candidate) => {
      await using service = await startService({ engine, signal, environment: running(candidate) })
      return await millisecondsOf(() => runs(service, PROBE_RUNS))
    })
    await using service = await startService({ engine, signal, environment: running(concurrency) })
    const ours = () => runs(service, RUNS)
    const measured = await inTurn(
      { ours: { figure: () => rateOf(ours) }, rival: { figure: () => rateOf(rival.run) } },
      { rounds: roundsOf(pairs, PAIRS_PER_ROUND), signal },
    )
    return { P4: { ...measured, notes: [rival.note, `ours did best with ${concurrency} at once`] } }
  },
}

function running(atOnce: number): Record<string, string> {
  return { ...COLD, CO_MAX_CONCURRENT_RUNS: String(atOnce) }
}

async function rateOf(work: () => Promise<void>): Promise<number> {
  return RUNS / ((await millisecondsOf(work)) / 1000)
}
