import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { KeyedTurns } from '../../../src/managers/keyed-turns.ts'
import { recordedWork } from '../support/recorded-work.ts'
import { rejection } from '../support/streams.ts'

describe('KeyedTurns', () => {
  it('does the work of a key one at a time, in the order it came', async () => {
    const turns = new KeyedTurns()
    const { events, work } = recordedWork()
    expect(await Promise.all(['a', 'b', 'c'].map((name) => turns.take('key', work(name))))).toEqual(['a', 'b', 'c'])
    expect(events).toEqual(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends'])
  })

  it('does that of other keys beside it', async () => {
    const turns = new KeyedTurns()
    const slow = Promise.withResolvers<string>()
    const one = turns.take('one', () => slow.promise)
    expect(await turns.take('two', async () => 'done')).toBe('done')
    slow.resolve('at last')
    expect(await one).toBe('at last')
  })

  it('goes on after work that failed, which only its own caller is told', async () => {
    const turns = new KeyedTurns()
    const failure = new Error('no')
    const failed = turns.take('key', () => Promise.reject(failure))
    const thrown = turns.take('key', () => {
      throw failure
    })
    const next = turns.take('key', async () => 'next')
    expect(await rejection(failed)).toBe(failure)
    expect(await rejection(thrown)).toBe(failure)
    expect(await next).toBe('next')
  })

  it('keeps the order where work comes while the last of the key ends', async () => {
    const turns = new KeyedTurns()
    const events: string[] = []
    let second: Promise<unknown> = Promise.resolve()
    await turns.take('key', async () => {
      second = turns.take('key', async () => events.push('second'))
      await setImmediate()
      events.push('first')
    })
    await turns.take('key', async () => events.push('third'))
    await second
    expect(events).toEqual(['first', 'second', 'third'])
  })
})
