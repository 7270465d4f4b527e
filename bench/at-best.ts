/** At how many at once some work goes fastest on this machine: tried out, for ours as for rivals. */
const CANDIDATES = [2, 4, 8, 16]
/** So much that most of it runs beside other, however many run at once. */
export const PROBE_RUNS = 32

export async function millisecondsOf(work: () => Promise<void>): Promise<number> {
  const began = performance.now()
  await work()
  return performance.now() - began
}

/** `work` does the same amount each time, so many at once, and answers how many milliseconds that took. */
export async function bestConcurrency(work: (concurrency: number) => Promise<number>): Promise<number> {
  const tried: { concurrency: number; ms: number }[] = []
  for (const concurrency of CANDIDATES) {
    tried.push({ concurrency, ms: await work(concurrency) })
  }
  return tried.toSorted((a, b) => a.ms - b.ms)[0]?.concurrency ?? 4
}
