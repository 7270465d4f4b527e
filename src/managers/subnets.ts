/** IPv4 arithmetic for networks: pure. */

interface Range {
  first: number
  last: number
}

/** A session's network: a /27 holds 29 containers beside its gateway. */
const SESSION_PREFIX = 27

function parse(cidr: string): Range | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(cidr)
  if (match === null) return undefined
  const [a, b, c, d, prefix] = match.slice(1).map(Number) as [number, number, number, number, number]
  const size = 2 ** (32 - prefix)
  const address = ((a * 256 + b) * 256 + c) * 256 + d
  const first = Math.floor(address / size) * size
  return { first, last: first + size - 1 }
}

function format(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.')
}

/** How many networks of a prefix a range holds. */
export function capacityOf(range: string, prefix = SESSION_PREFIX): number {
  const whole = parse(range)
  return whole === undefined ? 0 : Math.floor((whole.last - whole.first + 1) / 2 ** (32 - prefix))
}

/**
 * The networks of a prefix in a range that overlap none of the taken ones, beginning at the `from`-th and going
 * around, so that an address that was just given back is the last to be used again.
 */
export function* freeSubnets(
  range: string,
  taken: Iterable<string>,
  from: number,
  prefix = SESSION_PREFIX,
): Generator<{ index: number; cidr: string }> {
  const whole = parse(range)
  if (whole === undefined) return
  const used = [...taken].flatMap((cidr) => parse(cidr) ?? [])
  const count = capacityOf(range, prefix)
  const size = 2 ** (32 - prefix)
  for (let step = 0; step < count; step++) {
    const index = (from + step) % count
    const first = whole.first + index * size
    const last = first + size - 1
    if (used.some((other) => other.first <= last && other.last >= first)) continue
    yield { index, cidr: `${format(first)}/${prefix}` }
  }
}
