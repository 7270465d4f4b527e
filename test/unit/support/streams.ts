/** Byte streams for tests, cut in any way. */
import fc from 'fast-check'

/** A source that gives these pieces, one read each. */
export async function* reads(pieces: Iterable<Buffer>): AsyncGenerator<Buffer> {
  yield* pieces
}

export async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of source) items.push(item)
  return items
}

/** Bytes cut at these places, in any order and repeated as they may be. */
export function cutAt(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b)
  return [0, ...sorted].map((from, index) => bytes.subarray(from, sorted[index] ?? bytes.length))
}

export const cuts = fc.array(fc.nat(10_000), { maxLength: 12 })

/** Text with characters of one to four bytes, and line ends. */
export const wideText = fc.string({ unit: fc.constantFrom('a', ' ', '\n', 'é', '€', '漢', '🦀'), maxLength: 60 })

export async function rejection(work: Promise<unknown>): Promise<unknown> {
  try {
    await work
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}

export function thrown(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}
