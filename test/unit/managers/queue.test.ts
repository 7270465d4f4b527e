import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Release, RunQueue, type WaitingRun } from '../../../src/managers/queue.ts'
import { thrown } from '../support/streams.ts'

/** A queue whose turns are written down in their order. */
function recorded(concurrency: number, limit = 1000) {
  const turns: string[] = []
  const releases: Release[] = []
  const given = (id: string, release: Release) => {
    turns.push(id)
    releases.push(release)
  }
  const queue = new RunQueue({ concurrency, limit, onTurn: ({ id }, release) => given(id, release) })
  const enter = (sessionId: string, priority: number, id: string): WaitingRun => {
    const run = { id, sessionId, priority }
    const release = queue.enter(run)
    if (release !== undefined) given(id, release)
    return run
  }
  /** Ends what runs, one after the other, until nothing waits. */
  const drain = () => {
    while (releases.length > 0) releases.shift()?.()
  }
  return { queue, turns, releases, enter, drain }
}

describe('RunQueue', () => {
  it('gives turns at once while there is room', () => {
    const { queue, turns, enter } = recorded(2)
    for (const id of ['a1', 'a2', 'a3']) enter('a', 5, id)
    expect(turns).toEqual(['a1', 'a2'])
    expect([queue.running, queue.waiting]).toEqual([2, 1])
  })

  it('gives turns in the order of asking within a session', () => {
    const { turns, enter, drain } = recorded(1)
    for (const id of ['1', '2', '3', '4']) enter('a', 5, id)
    drain()
    expect(turns).toEqual(['1', '2', '3', '4'])
  })

  it('takes the highest priority of a session first, and then the oldest', () => {
    const { turns, enter, drain } = recorded(1)
    enter('a', 5, 'running')
    enter('a', 5, 'mid1')
    enter('a', 0, 'low')
    enter('a', 9, 'high1')
    enter('a', 5, 'mid2')
    enter('a', 9, 'high2')
    drain()
    expect(turns).toEqual(['running', 'high1', 'high2', 'mid1', 'mid2', 'low'])
  })

  it('takes sessions one after the other, so that a flood of one delays another by one run', () => {
    const { turns, enter, drain } = recorded(1)
    for (let count = 1; count <= 5; count++) enter('flood', 9, `f${count}`)
    enter('quiet', 0, 'q1')
    enter('quiet', 0, 'q2')
    enter('other', 5, 'o1')
    drain()
    expect(turns).toEqual(['f1', 'f2', 'q1', 'o1', 'f3', 'q2', 'f4', 'f5'])
  })

  it('puts a session that comes back behind those that wait', () => {
    const { turns, releases, enter, drain } = recorded(1)
    enter('a', 5, 'a1')
    enter('a', 5, 'a2')
    enter('b', 5, 'b1')
    releases.shift()?.()
    expect(turns).toEqual(['a1', 'a2'])
    enter('a', 9, 'a3')
    drain()
    expect(turns).toEqual(['a1', 'a2', 'b1', 'a3'])
  })

  it('frees a place once, however often it is given back', () => {
    const { queue, turns, releases, enter } = recorded(1)
    for (const id of ['1', '2', '3']) enter('a', 5, id)
    const release = releases.shift()
    release?.()
    release?.()
    release?.()
    expect(turns).toEqual(['1', '2'])
    expect([queue.running, queue.waiting]).toEqual([1, 1])
  })

  it('passes over a run that was taken out of line, and tells whether it was in it', () => {
    const { queue, turns, enter, drain } = recorded(1)
    const running = enter('a', 5, 'running')
    const removed = enter('a', 9, 'removed')
    enter('a', 5, 'next')
    expect(queue.remove(removed)).toBe(true)
    expect(queue.remove(removed)).toBe(false)
    expect(queue.remove(running)).toBe(false)
    expect(queue.waiting).toBe(1)
    drain()
    expect(turns).toEqual(['running', 'next'])
    expect([queue.running, queue.waiting]).toEqual([0, 0])
  })

  it('tells that it is full once no more may run or wait, and how to go on', () => {
    const { queue, releases, enter } = recorded(1, 2)
    for (const id of ['1', '2', '3']) enter('a', 5, id)
    expect(thrown(() => queue.admit())).toMatchObject({
      code: 'queue_full',
      details: { retryAfterSeconds: 5, hint: expect.stringContaining('CO_QUEUE_LIMIT') },
    })
    releases.shift()?.()
    expect(queue.admit()).toBeTypeOf('object')
  })

  it('counts who was let in and is not in line yet, until it enters or withdraws, once', () => {
    const { queue } = recorded(1, 1)
    const first = queue.admit()
    const second = queue.admit()
    expect(thrown(() => queue.admit())).toMatchObject({ code: 'queue_full' })
    second.withdraw()
    second.withdraw()
    const third = queue.admit()
    expect(thrown(() => queue.admit())).toMatchObject({ code: 'queue_full' })
    expect(first.enter({ id: '1', sessionId: 'a', priority: 5 })).toBeTypeOf('function')
    expect(third.enter({ id: '2', sessionId: 'a', priority: 5 })).toBeUndefined()
    third.withdraw()
    expect([queue.running, queue.waiting]).toEqual([1, 1])
    expect(thrown(() => queue.admit())).toMatchObject({ code: 'queue_full' })
  })

  it('with a limit of 0 takes what can run at once and nothing more', () => {
    const { queue, enter } = recorded(1, 0)
    enter('a', 5, '1')
    expect(thrown(() => queue.admit())).toMatchObject({ code: 'queue_full' })
  })

  it('gives nobody a turn while it is suspended, for as long as one reason holds', () => {
    const { queue, turns, releases, enter } = recorded(2)
    enter('a', 5, '1')
    queue.suspend('engine')
    queue.suspend('disk')
    enter('a', 5, '2')
    releases.shift()?.()
    expect(turns).toEqual(['1'])
    queue.resume('engine')
    expect(turns).toEqual(['1'])
    queue.resume('disk')
    expect(turns).toEqual(['1', '2'])
    expect([queue.running, queue.waiting]).toEqual([1, 0])
  })

  it('counts what runs already, also beyond its concurrency', () => {
    const { queue, turns, enter } = recorded(1)
    const releases = [queue.occupy(), queue.occupy()]
    enter('a', 5, '1')
    expect([queue.running, queue.waiting]).toEqual([2, 1])
    releases[0]?.()
    expect(turns).toEqual([])
    releases[1]?.()
    expect(turns).toEqual(['1'])
  })

  it('tells how many turns it takes, as they come if nobody else asks', () => {
    const asked = fc.array(fc.record({ session: fc.nat(4), priority: fc.nat(9) }), { minLength: 1, maxLength: 40 })
    fc.assert(
      fc.property(asked, fc.nat(20), (runs, ended) => {
        const { queue, turns, releases, enter, drain } = recorded(1)
        const waiting = runs.map(({ session, priority }, index) => enter(`s${session}`, priority, String(index)))
        for (let count = 0; count < ended; count++) releases.shift()?.()
        const before = turns.length
        const positions = waiting.flatMap((run) => {
          const position = queue.position(run)
          return position === undefined ? [] : [[run.id, position] as const]
        })
        drain()
        const actual = turns.slice(before).map((id, index) => [id, index + 1] as const)
        const byId = (a: readonly [string, number], b: readonly [string, number]) => Number(a[0]) - Number(b[0])
        expect(positions.toSorted(byId)).toEqual(actual.toSorted(byId))
      }),
    )
  })

  it('lets nobody wait beyond its fair share, with ten thousand in line', () => {
    const { turns, enter, drain } = recorded(4, 20_000)
    const sessions = 50
    for (let count = 0; count < 10_000; count++) {
      // One session asks for half of all.
      const session = count % 2 === 0 ? 0 : 1 + (((count - 1) / 2) % (sessions - 1))
      enter(`s${session}`, count % 10, `s${session}:${count}`)
    }
    drain()
    expect(turns).toHaveLength(10_000)
    const served = new Map<string, number>()
    turns.forEach((id, turn) => {
      const session = id.slice(0, id.indexOf(':'))
      const mine = (served.get(session) ?? 0) + 1
      served.set(session, mine)
      // With so many sessions in line, the n-th turn of one comes within n rounds.
      expect(turn).toBeLessThanOrEqual(mine * sessions + 4)
    })
  })

  it('never runs more than its concurrency, wastes no place and forgets nobody, whatever happens', () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ do: fc.constant('ask' as const), session: fc.nat(3), priority: fc.nat(9) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('end' as const), which: fc.nat(20) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('remove' as const), which: fc.nat(20) }) },
    )
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), fc.array(step, { maxLength: 60 }), (concurrency, steps) => {
        const { queue, turns, releases, enter, drain } = recorded(concurrency)
        const runs: WaitingRun[] = []
        let removed = 0
        for (const action of steps) {
          const which = action.do === 'ask' ? undefined : runs[action.which % (runs.length || 1)]
          if (action.do === 'ask') runs.push(enter(`s${action.session}`, action.priority, String(runs.length)))
          else if (action.do === 'end') releases.splice(action.which % (releases.length || 1), 1)[0]?.()
          else if (which !== undefined && queue.remove(which)) removed += 1
          expect(queue.running).toBe(releases.length)
          expect(queue.running).toBeLessThanOrEqual(concurrency)
          expect(queue.waiting).toBe(runs.length - turns.length - removed)
          // Nobody waits beside a free place.
          expect(queue.running === concurrency || queue.waiting === 0).toBe(true)
        }
        drain()
        expect(turns.length + removed).toBe(runs.length)
        expect(new Set(turns).size).toBe(turns.length)
        expect([queue.running, queue.waiting]).toEqual([0, 0])
      }),
    )
  })
})
