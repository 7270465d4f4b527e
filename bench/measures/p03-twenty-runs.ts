import { type Bench, type Measure, roundsOf } from '../bench.ts'
import { inTurn, timedStart } from '../in-turn.ts'
import { coldNotes, parking, prime, untilParked } from '../pool.ts'
import { BARE_RUNS, bareRunsAtBest } from '../rivals/bare-runs.ts'
import { ratioAtMost } from '../row.ts'
import { startService } from '../service.ts'
import { atOnce, gone, greet, type Run } from '../tool-runs.ts'

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
      rival: BARE_RUNS,
      goal: ratioAtMost(0.3),
    },
  ],
  async run(bench: Bench) {
    const { engine, pairs, signal } = bench
    const rival = await bareRunsAtBest(bench, RUNS)
    const environment = { ...parking(RUNS), CO_MAX_CONCURRENT_RUNS: String(RUNS) }
    await using service = await startService({ engine, signal, environment })
    await prime(service, RUNS)
    const runs: Run[] = []
    const ours = timedStart({
      start: async () => {
        const round = await atOnce(RUNS, RUNS, () => greet(service))
        runs.push(...round)
        return round
      },
      end: async (round) => {
        await gone(engine, round)
        await untilParked(service, RUNS)
      },
    })
    const measured = await inTurn({ ours, rival }, { rounds: roundsOf(pairs, PAIRS_PER_ROUND), signal })
    return { P3: { ...measured, notes: [rival.note, ...coldNotes(runs.slice(RUNS))] } }
  },
}
