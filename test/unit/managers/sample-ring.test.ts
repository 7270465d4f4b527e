import { describe, expect, it } from 'vitest'
import { SampleRing } from '../../../src/managers/sample-ring.ts'
import { statsSample } from '../../fixtures/stats-sample.ts'

const nth = (number: number) =>
  statsSample({ at: new Date(1_000 * number), cpuNanoseconds: number, networkRxBytes: number % 2 === 0 ? null : 7 })

describe('SampleRing', () => {
  it('gives back what it was given, null included', () => {
    const ring = new SampleRing(4)
    const full = statsSample({
      cpuNanoseconds: 2 ** 52,
      memoryBytes: 1,
      memoryLimitBytes: 2,
      memoryPeakBytes: 3,
      networkRxBytes: 4,
      networkTxBytes: 5,
      diskReadBytes: 6,
      diskWriteBytes: 7,
      pids: 8,
    })
    ring.push(full)
    ring.push(statsSample())
    expect(ring.at(0)).toEqual(full)
    expect(ring.at(1)).toEqual(statsSample())
  })

  it.each([1, 2, 7, 8, 9, 100])('keeps the last %i, oldest first, however many come', (limit) => {
    const ring = new SampleRing(limit)
    expect(ring.at(0)).toBeUndefined()
    expect(ring.at(-1)).toBeUndefined()
    for (let number = 0; number < 250; number++) {
      ring.push(nth(number))
      const oldest = Math.max(0, number + 1 - limit)
      expect(ring.length).toBe(number + 1 - oldest)
      expect(ring.at(0)).toEqual(nth(oldest))
      expect(ring.at(-1)).toEqual(nth(number))
      expect(ring.at(-ring.length)).toEqual(nth(oldest))
      expect(ring.at(ring.length)).toBeUndefined()
      expect(ring.at(-ring.length - 1)).toBeUndefined()
    }
    const kept = Array.from({ length: ring.length }, (_, index) => ring.at(index))
    expect(kept).toEqual(Array.from({ length: limit }, (_, index) => nth(250 - limit + index)))
  })
})
