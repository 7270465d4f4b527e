/**
 * Does some work for each item, for at most so many at once, and answers the results in the order of the
 * items. Where some of it fails, no more is begun, and the first error is the one that is thrown.
 */
export async function sideBySide<T, R>(
  items: readonly T[],
  atMost: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  const waiting = items.entries()
  let hasFailed = false
  const lane = async () => {
    for (const [index, item] of waiting) {
      if (hasFailed) return
      try {
        results[index] = await work(item)
      } catch (error) {
        hasFailed = true
        throw error
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(atMost, items.length) }, lane))
  return results
}
