import { describe, expect, it } from 'vitest'
import { Turns } from '../../../src/managers/turns.ts'
import { recordedWork } from '../support/recorded-work.ts'
import { rejection } from '../support/streams.ts'

describe('Turns', () => {
  it('does one thing at a time, in the order it came, and none at once', async () => {
    const turns = new Turns()
    const { events, work } = recordedWork()
    const all = ['a', 'b'].map((name) => turns.take(work(name)))
    expect(events).toEqual([])
    expect(await Promise.all(all)).toEqual(['a', 'b'])
    expect(events).toEqual(['a begins', 'a ends', 'b begins', 'b ends'])
  })

  it('goes on after what failed, which only its own caller is told', async () => {
    const turns = new Turns()
    const failure = new Error('no')
    const failed = turns.take(() => Promise.reject(failure))
    const next = turns.take(async () => 'next')
    expect(await rejection(failed)).toBe(failure)
    expect(await next).toBe('next')
  })

  it('is idle before the first and after the last, whatever became of it', async () => {
    const turns = new Turns()
    expect(turns.idle).toBe(true)
    const failed = turns.take(() => Promise.reject(new Error('no')))
    const last = turns.take(async () => {
      expect(turns.idle).toBe(false)
    })
    expect(turns.idle).toBe(false)
    await rejection(failed)
    await last
    expect(turns.idle).toBe(true)
  })
})
