/** At how many at once some work goes fastest on this machine: tried out, for ours as for rivals. */
const CANDIDATES = [2, 4, 8, 16]

/** `work` does the same amount each time, so many at once. */
export async function bestConcurrency(work: (concurrency: number) => Promise<void>): Promise<number> {
  const tried: { concurrency: number; ms: number }[] = []
  for (const concurrency of CANDIDATES) {
    const began = performance.now()
    await work(concurrency)
    tried.push({ concurrency, ms: performance.now() - began })
  }
  return tried.toSorted((a, b) => a.ms - b.ms)[0]?.concurrency ?? 4
}
