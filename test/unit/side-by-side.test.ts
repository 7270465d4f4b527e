import { describe, expect, it } from 'vitest'
import { sideBySide } from '../../src/side-by-side.ts'

describe('work side by side', () => {
  /** Work that ends when it is told to, in whatever order. */
  function heldWork() {
    const under = new Map<number, { end: () => void; fail: () => void }>()
    const begun: number[] = []
    const work = (item: number) => {
      begun.push(item)
      return new Promise<string>((resolve, reject) => {
        const over = (settle: () => void) => () => {
          under.delete(item)
          settle()
        }
        under.set(item, {
          end: over(() => resolve(`result ${item}`)),
          fail: over(() => reject(new Error(`no ${item}`))),
        })
      })
    }
    return { begun, under, work }
  }
  const turn = () => new Promise((resolve) => setImmediate(resolve))

  it('is done for every item, for so many at once and no more, with the results in the order of the items', async () => {
    const { begun, under, work } = heldWork()
    const all = sideBySide([1, 2, 3, 4, 5], 2, work)
    expect(begun).toEqual([1, 2])
    under.get(2)?.end()
    await turn()
    expect(begun).toEqual([1, 2, 3])
    for (; under.size > 0; await turn()) {
      expect(under.size).toBeLessThanOrEqual(2)
      under.get(Math.max(...under.keys()))?.end()
    }
    expect(await all).toEqual([1, 2, 3, 4, 5].map((item) => `result ${item}`))
  })

  it('is begun for no more items once some has failed, whose error is told', async () => {
    const { begun, under, work } = heldWork()
    const all = sideBySide([1, 2, 3, 4], 2, work)
    under.get(1)?.fail()
    await expect(all).rejects.toThrow('no 1')
    under.get(2)?.end()
    await turn()
    expect(begun).toEqual([1, 2])
  })

  it('is nothing for no items', async () => {
    expect(await sideBySide([], 4, () => Promise.reject(new Error('begun')))).toEqual([])
  })
})
