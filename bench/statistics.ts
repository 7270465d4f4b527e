/** Quantiles, and ratios of pairs: pure. */

/** The value that a share (0 to 1) of the values does not exceed, interpolated between its neighbours; NaN of none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const place = (sorted.length - 1) * share
  const below = sorted[Math.floor(place)] ?? Number.NaN
  const above = sorted[Math.ceil(place)] ?? Number.NaN
  return below + (above - below) * (place - Math.floor(place))
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/**
 * How many times the rival's value ours is: the median of the pairs' ratios, since what disturbs the
 * machine disturbs both halves of a pair. Of lists that are not of one length, the ratio of the medians.
 */
export function ratioOf(ours: readonly number[], theirs: readonly number[]): number {
  if (ours.length !== theirs.length) return median(ours) / median(theirs)
  return median(ours.map((value, index) => value / (theirs[index] ?? Number.NaN)))
}
