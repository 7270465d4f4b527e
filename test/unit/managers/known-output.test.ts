import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { KnownOutput } from '../../../src/managers/known-output.ts'

/** Where the log goes on from, for one stream whose known part came in these pieces. */
function place(known: readonly Buffer[], log: readonly Buffer[], omitted = 0): number {
  const output = new KnownOutput()
  if (omitted > 0) output.omit('stdout', omitted)
  for (const bytes of known) output.add({ stream: 'stdout', bytes })
  const search = output.stdout.search()
  for (const bytes of log) search.add(bytes)
  return search.place
}

/** Lines that are all different, as a log mostly is. */
function lines(from: number, to: number): Buffer {
  let text = ''
  for (let line = from; line < to; line++) text += `line ${line}\n`
  return Buffer.from(text)
}

function pieces(bytes: Buffer, size: number): Buffer[] {
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) parts.push(bytes.subarray(at, at + size))
  return parts
}

describe('the place in an engine’s log up to which output is known', () => {
  it('is where the counting says, however the output and the log were cut into pieces', () => {
    const counts = fc.integer({ min: 0, max: 3000 })
    fc.assert(
      fc.property(
        counts,
        counts,
        fc.integer({ min: 1, max: 5000 }),
        fc.integer({ min: 1, max: 5000 }),
        (a, b, m, n) => {
          const known = lines(0, a)
          const log = Buffer.concat([known, lines(a, a + b)])
          expect(place(pieces(known, m), pieces(log, n))).toBe(known.length)
        },
      ),
      { numRuns: 40 },
    )
  })

  it('is where the counting says in output that repeats itself', () => {
    const yes = Buffer.from('y\n'.repeat(50_000))
    expect(place(pieces(yes.subarray(0, 60_000), 1000), pieces(yes, 777))).toBe(60_000)
  })

  it('is ahead of a log that still holds an unfinished line back', () => {
    const known = Buffer.concat([lines(0, 500), Buffer.from('unfinished')])
    expect(place([known], [lines(0, 500)])).toBe(known.length)
    expect(place([Buffer.from('unfinished')], [])).toBe('unfinished'.length)
  })

  it('is found by what was written last where the engine has let go of the beginning', () => {
    const known = lines(0, 5000)
    const kept = lines(4000, 6000)
    expect(place(pieces(known, 1000), pieces(kept, 900))).toBe(lines(4000, 5000).length)
  })

  it('is the beginning of a log that has nothing of it: of another container, or all let go of', () => {
    expect(place(pieces(lines(0, 100), 100), pieces(lines(7000, 9000), 900))).toBe(0)
    expect(place(pieces(lines(0, 9000), 100), pieces(lines(10_000, 10_100), 900))).toBe(0)
  })

  it('counts what was dropped in the middle', () => {
    const all = lines(0, 5000)
    const kept = lines(4000, 5000)
    const log = Buffer.concat([all, lines(5000, 5100)])
    expect(place([kept], pieces(log, 4096), all.length - kept.length)).toBe(all.length)
  })

  it('is the count alone where everything up to it was dropped', () => {
    expect(place([], pieces(lines(0, 100), 64), 50)).toBe(50)
    expect(place([], [lines(0, 2)], 50)).toBe(0)
  })
})
