import { describe, expect, it } from 'vitest'
import { inTurn } from '../../../bench/in-turn.ts'

describe('contenders by turns', () => {
  const signal = new AbortController().signal

  it('are prepared, run and settled, who begins changing with each round', async () => {
    const calls: string[] = []
    const contender = (name: string) => ({
      prepare: async () => void calls.push(`${name} prepared`),
      run: async () => void calls.push(name),
      settle: async () => void calls.push(`${name} settled`),
    })
    await inTurn({ a: contender('a'), b: contender('b') }, { rounds: 2, warmUp: 0, signal })
    const turn = (name: string) => [`${name} prepared`, name, `${name} settled`]
    expect(calls).toEqual(['a', 'b', 'b', 'a'].flatMap(turn))
  })

  it('give their figures, or the time that they took, and none of the warm-up', async () => {
    let count = 0
    const counting = { figure: async () => ++count }
    const timed = { run: async () => {} }
    const values = await inTurn({ counting, timed }, { rounds: 3, warmUp: 2, signal })
    expect(values.counting).toEqual([3, 4, 5])
    expect(values.timed).toHaveLength(3)
    expect(values.timed.every((ms) => ms >= 0)).toBe(true)
  })

  it('stop where they are told to', async () => {
    const stop = new AbortController()
    const run = async () => stop.abort(new Error('interrupted'))
    await expect(inTurn({ a: { run } }, { rounds: 5, signal: stop.signal })).rejects.toThrow('interrupted')
  })
})
