import { describe, expect, it } from 'vitest'
import { InFlight } from '../../../src/managers/in-flight.ts'
import { rejection, thrown } from '../support/streams.ts'

describe('InFlight', () => {
  it('does the work once for all who ask while it is under way', async () => {
    const flights = new InFlight<number>()
    let starts = 0
    const work = () => flights.share('a', async () => ++starts)
    expect(await Promise.all([work(), work(), work()])).toEqual([1, 1, 1])
    expect(starts).toBe(1)
  })

  it('gives nobody the result later', async () => {
    const flights = new InFlight<number>()
    let starts = 0
    const work = () => flights.share('a', async () => ++starts)
    expect(await work()).toBe(1)
    expect(await work()).toBe(2)
  })

  it('keeps keys apart', async () => {
    const flights = new InFlight<string>()
    const work = (key: string) => flights.share(key, async () => key)
    expect(await Promise.all([work('a'), work('b'), work('__proto__')])).toEqual(['a', 'b', '__proto__'])
  })

  it('tells a failure to all who shared it, and tries again for the next', async () => {
    const flights = new InFlight<string>()
    const failure = new Error('no network')
    const failing = () => flights.share('a', () => Promise.reject(failure))
    expect(await Promise.all([rejection(failing()), rejection(failing())])).toEqual([failure, failure])
    expect(await flights.share('a', async () => 'made')).toBe('made')
  })

  it('holds nothing of work that could not begin', async () => {
    const flights = new InFlight<string>()
    const broken = () => {
      throw new Error('at once')
    }
    expect(thrown(() => flights.share('a', broken))).toMatchObject({ message: 'at once' })
    expect(await flights.share('a', async () => 'made')).toBe('made')
  })
})
