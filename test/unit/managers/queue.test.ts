import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RunQueue } from '../../../src/managers/queue.ts'
import { rejection, thrown } from '../support/streams.ts'

const NEVER = new AbortController().signal

/** A queue whose turns are written down in their order. */
function recorded(concurrency: number, limit = 1000) {
  const queue = new RunQueue({ concurrency, limit })
  const turns: string[] = []
  const releases: (() => void)[] = []
  const ask = (session: string, priority: number, name: string, signal: AbortSignal = NEVER) =>
    queue.acquire(session, priority, signal).then((release) => {
      turns.push(name)
      releases.push(release)
    })
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve))
  /** Ends what runs, one after the other, until nothing waits. */
  const drain = async () => {
    await settle()
    while (releases.length > 0) {
      releases.shift()?.()
      await settle()
    }
  }
  return { queue, turns, releases, ask, settle, drain }
}

describe('RunQueue', () => {
  it('grants at once while there is room', async () => {
    const { queue, turns, ask, settle } = recorded(2)
    void ask('a', 5, 'a1')
    void ask('a', 5, 'a2')
    void ask('a', 5, 'a3')
    await settle()
    expect(turns).toEqual(['a1', 'a2'])
    expect([queue.running, queue.waiting]).toEqual([2, 1])
  })

  it('grants in the order of asking within a session', async () => {
    const { turns, ask, drain } = recorded(1)
    for (const name of ['1', '2', '3', '4']) void ask('a', 5, name)
    await drain()
    expect(turns).toEqual(['1', '2', '3', '4'])
  })

  it('takes the highest priority of a session first, and then the oldest', async () => {
    const { turns, ask, drain } = recorded(1)
    void ask('a', 5, 'running')
    void ask('a', 5, 'mid1')
    void ask('a', 0, 'low')
    void ask('a', 9, 'high1')
    void ask('a', 5, 'mid2')
    void ask('a', 9, 'high2')
    await drain()
    expect(turns).toEqual(['running', 'high1', 'high2', 'mid1', 'mid2', 'low'])
  })

  it('takes sessions one after the other, so that a flood of one delays another by one run', async () => {
    const { turns, ask, drain } = recorded(1)
    for (let count = 1; count <= 5; count++) void ask('flood', 9, `f${count}`)
    void ask('quiet', 0, 'q1')
    void ask('quiet', 0, 'q2')
    void ask('other', 5, 'o1')
    await drain()
    expect(turns).toEqual(['f1', 'f2', 'q1', 'o1', 'f3', 'q2', 'f4', 'f5'])
  })

  it('puts a session that comes back behind those that wait', async () => {
    const { turns, releases, ask, settle, drain } = recorded(1)
    void ask('a', 5, 'a1')
    void ask('a', 5, 'a2')
    void ask('b', 5, 'b1')
    await settle()
    releases.shift()?.()
    await settle()
    expect(turns).toEqual(['a1', 'a2'])
    void ask('a', 9, 'a3')
    await drain()
    expect(turns).toEqual(['a1', 'a2', 'b1', 'a3'])
  })

  it('frees a place once, however often it is given back', async () => {
    const { queue, turns, releases, ask, settle } = recorded(1)
    for (const name of ['1', '2', '3']) void ask('a', 5, name)
    await settle()
    const release = releases.shift()
    release?.()
    release?.()
    release?.()
    await settle()
    expect(turns).toEqual(['1', '2'])
    expect([queue.running, queue.waiting]).toEqual([1, 1])
  })

  it('rejects with the reason of an abort while waiting, and passes over the run', async () => {
    const { queue, turns, ask, settle, drain } = recorded(1)
    const abort = new AbortController()
    const reason = new Error('cancelled by the caller')
    void ask('a', 5, 'running')
    const waiting = ask('a', 9, 'aborted', abort.signal)
    void ask('a', 5, 'next')
    await settle()
    abort.abort(reason)
    expect(await rejection(waiting)).toBe(reason)
    expect(queue.waiting).toBe(1)
    await drain()
    expect(turns).toEqual(['running', 'next'])
    expect([queue.running, queue.waiting]).toEqual([0, 0])
  })

  it('rejects a run that was aborted before it asked, and takes no place for it', async () => {
    const { queue, ask } = recorded(1)
    const reason = new Error('gone')
    expect(await rejection(ask('a', 5, 'x', AbortSignal.abort(reason)))).toBe(reason)
    expect([queue.running, queue.waiting]).toEqual([0, 0])
  })

  it('lets a run keep its place where the abort comes after its turn', async () => {
    const { queue, turns, ask, settle } = recorded(1)
    const abort = new AbortController()
    await ask('a', 5, 'x', abort.signal)
    abort.abort()
    await settle()
    expect(turns).toEqual(['x'])
    expect(queue.running).toBe(1)
  })

  it('tells that it is full once no more may run or wait, and how to go on', async () => {
    const { queue, releases, ask, settle } = recorded(1, 2)
    for (const [session, name] of [
      ['a', '1'],
      ['a', '2'],
      ['b', '3'],
    ] as const) {
      expect(queue.admit()).toBeUndefined()
      void ask(session, 5, name)
    }
    expect(thrown(() => queue.admit())).toMatchObject({
      code: 'queue_full',
      details: { retryAfterSeconds: 5, hint: expect.stringContaining('CO_QUEUE_LIMIT') },
    })
    await settle()
    releases.shift()?.()
    expect(queue.admit()).toBeUndefined()
  })

  it('counts who was let in and is not in line yet, until it withdraws', () => {
    const { queue } = recorded(1, 1)
    queue.admit()
    queue.admit()
    expect(thrown(() => queue.admit())).toMatchObject({ code: 'queue_full' })
    queue.withdraw()
    expect(queue.admit()).toBeUndefined()
  })

  it('with a limit of 0 takes what can run at once and nothing more', () => {
    const { queue, ask } = recorded(1, 0)
    queue.admit()
    void ask('a', 5, '1')
    expect(thrown(() => queue.admit())).toMatchObject({ code: 'queue_full' })
  })

  it('never runs more than its concurrency, wastes no place and forgets nobody, whatever happens', async () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ do: fc.constant('ask' as const), session: fc.nat(3), priority: fc.nat(9) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('end' as const), which: fc.nat(20) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('abort' as const), which: fc.nat(20) }) },
    )
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.array(step, { maxLength: 60 }),
        async (concurrency, steps) => {
          const { queue, turns, releases, ask, settle, drain } = recorded(concurrency)
          const waiting: AbortController[] = []
          let asked = 0
          let aborted = 0
          for (const action of steps) {
            if (action.do === 'ask') {
              const controller = new AbortController()
              waiting.push(controller)
              asked += 1
              ask(`s${action.session}`, action.priority, String(asked), controller.signal).catch(() => {
                aborted += 1
              })
            } else if (action.do === 'end') releases.splice(action.which % (releases.length || 1), 1)[0]?.()
            else waiting[action.which % (waiting.length || 1)]?.abort()
            await settle()
            expect(queue.running).toBe(releases.length)
            expect(queue.running).toBeLessThanOrEqual(concurrency)
            expect(queue.waiting).toBe(asked - turns.length - aborted)
            // Nobody waits beside a free place.
            expect(queue.running === concurrency || queue.waiting === 0).toBe(true)
          }
          await drain()
          expect(turns.length + aborted).toBe(asked)
          expect(new Set(turns).size).toBe(turns.length)
          expect([queue.running, queue.waiting]).toEqual([0, 0])
        },
      ),
    )
  })
})
