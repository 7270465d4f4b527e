/** Runs by bare engine calls, several at once, as many as the engine does best with. */
import { bestConcurrency, millisecondsOf, PROBE_RUNS } from '../at-best.ts'
import { type Bench, labelsOf } from '../bench.ts'
import { atOnce } from '../tool-runs.ts'

export const BARE_RUNS = 'bare engine calls, as many at once as is best'

/** So many runs, again and again, and what is to be said of them. */
export async function bareRunsAtBest(bench: Bench, count: number): Promise<{ run(): Promise<void>; note: string }> {
  const concurrency = await bench.once('best concurrency of bare runs', () =>
    bestConcurrency((concurrency) => millisecondsOf(() => bareRuns(bench, PROBE_RUNS, concurrency))),
  )
  return {
    run: () => bareRuns(bench, count, concurrency),
    note: `the rival did best with ${concurrency} at once`,
  }
}

async function bareRuns(bench: Bench, count: number, concurrency: number): Promise<void> {
  await atOnce(count, concurrency, async () => {
    bench.signal.throwIfAborted()
    await bench.engine.run(labelsOf(bench))
  })
}
