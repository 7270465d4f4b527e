/** Runs by bare engine calls, several at once, as many as the engine does best with. */
import { type Bench, labelsOf } from '../bench.ts'
import { atOnce } from '../tool-runs.ts'

export const BARE_RUNS = 'bare engine calls, as many at once as is best'

const CANDIDATES = [2, 4, 8, 16]
const PROBE_RUNS = 16

/** So many runs, again and again, and what is to be said of them. */
export async function bareRunsAtBest(bench: Bench, count: number): Promise<{ run(): Promise<void>; note: string }> {
  const concurrency = await bestConcurrency(bench)
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

/** At how many at once runs by bare calls go fastest here: tried out once. */
function bestConcurrency(bench: Bench): Promise<number> {
  return bench.once('best concurrency', async () => {
    const tried: { concurrency: number; ms: number }[] = []
    for (const concurrency of CANDIDATES) {
      const began = performance.now()
      await bareRuns(bench, PROBE_RUNS, concurrency)
      tried.push({ concurrency, ms: performance.now() - began })
    }
    return tried.toSorted((a, b) => a.ms - b.ms)[0]?.concurrency ?? 4
  })
}
