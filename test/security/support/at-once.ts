/** Does something with each item, so many at a time; the first error is thrown when all have ended. */
export async function atOnce<T>(
  lanes: number,
  items: readonly T[],
  work: (item: T, at: number) => Promise<unknown>,
): Promise<void> {
  let next = 0
  const lane = async () => {
    for (let at = next++; at < items.length; at = next++) await work(items[at] as T, at)
  }
  const settled = await Promise.allSettled(Array.from({ length: lanes }, lane))
  const failed = settled.find((end) => end.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
