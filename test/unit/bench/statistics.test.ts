import { describe, expect, it } from 'vitest'
import { median, quantile, ratioOf } from '../../../bench/statistics.ts'

describe('quantile', () => {
  it('interpolates between neighbours, whatever the order', () => {
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5)
    expect(quantile([30, 10, 20], 0.5)).toBe(20)
    expect(quantile([10, 20], 0.95)).toBeCloseTo(19.5)
  })

  it('answers the ends for 0 and 1, and a single value for all shares', () => {
    expect([quantile([3, 1, 2], 0), quantile([3, 1, 2], 1)]).toEqual([1, 3])
    expect([0, 0.5, 0.99].map((share) => quantile([7], share))).toEqual([7, 7, 7])
  })

  it('is no number of nothing, and leaves its argument as it is', () => {
    expect(quantile([], 0.5)).toBeNaN()
    const values = [2, 1]
    median(values)
    expect(values).toEqual([2, 1])
  })
})

describe('ratioOf', () => {
  it('is the median of the ratios of pairs, which one disturbed pair does not move', () => {
    expect(ratioOf([10, 20, 900], [20, 40, 100])).toBe(0.5)
  })

  it('is the ratio of the medians where there are no pairs', () => {
    expect(ratioOf([1, 2, 3], [100])).toBe(0.02)
  })
})
