import { describe, expect, it } from 'vitest'
import { inTurn, timedEnd, timedStart } from '../../../bench/in-turn.ts'

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

  it('make something anew in each round, of which the start or the end is timed', async () => {
    const calls: string[] = []
    let count = 0
    const making = (name: string) => ({
      start: async () => {
        count += 1
        calls.push(`${name} ${count} starts`)
        return count
      },
      end: async (made: number) => void calls.push(`${name} ${made} ends`),
    })
    const contenders = { a: timedStart(making('a')), b: timedEnd(making('b')) }
    await inTurn(contenders, { rounds: 1, warmUp: 1, signal })
    const turn = (name: string, made: number) => [`${name} ${made} starts`, `${name} ${made} ends`]
    expect(calls).toEqual([...turn('b', 1), ...turn('a', 2), ...turn('a', 3), ...turn('b', 4)])
    expect(Object.keys(contenders.a)).toEqual(['run', 'settle'])
    expect(Object.keys(contenders.b)).toEqual(['prepare', 'run'])
  })

  it('stop where they are told to', async () => {
    const stop = new AbortController()
    const run = async () => stop.abort(new Error('interrupted'))
    await expect(inTurn({ a: { run } }, { rounds: 5, signal: stop.signal })).rejects.toThrow('interrupted')
  })
})
