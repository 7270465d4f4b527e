import { describe, expect, it } from 'vitest'
import { Availability } from '../../../src/engine/availability.ts'
import type { ContainerState, Engine } from '../../../src/engine/engine.ts'
import { EngineError } from '../../../src/errors.ts'
import { startOnce } from '../../../src/managers/container-start.ts'

const ID = 'c'.repeat(64)
const CUT = new EngineError('unavailable', 'The engine closed the connection')

/** An engine whose answers to starts are given one after another; those after the last succeed. */
function engineOf({ answers, state, remembers = true, unreachable = 0 }: Setting) {
  const started: string[] = []
  const containers = {
    start: async (id: string) => {
      started.push(id)
      const error = answers[started.length - 1]
      if (error !== undefined) throw error
    },
    inspect: async () => {
      if (unreachable-- > 0) throw new EngineError('unavailable', 'connect ECONNREFUSED')
      return state as ContainerState | undefined
    },
  } as Partial<Engine['containers']> as Engine['containers']
  const engine = { containers, availability: new Availability(), remembersMaking: async () => remembers }
  return { engine, started }
}

interface Setting {
  answers: (EngineError | undefined)[]
  state?: Pick<ContainerState, 'status' | 'startedAt' | 'finishedAt'>
  remembers?: boolean
  /** How many times it cannot be asked afterwards, before anybody knows that it is away. */
  unreachable?: number
}

const start = (engine: Parameters<typeof startOnce>[0]) => startOnce(engine, ID, new AbortController().signal)

describe('a start whose answer is missing', () => {
  it('is asked for again where the engine was up all the time and did not start it', async () => {
    const { engine, started } = engineOf({ answers: [CUT], state: { status: 'created' } })
    expect(await start(engine)).toBe(false)
    expect(started).toEqual([ID, ID])
  })

  it.each<[string, Setting['state']]>([
    ['has ended', { status: 'exited', startedAt: new Date() }],
    ['runs', { status: 'running', startedAt: new Date() }],
    ['runs, by an engine that did not note when it began', { status: 'running' }],
    ['has ended, by an engine that did not note when it began', { status: 'created', finishedAt: new Date() }],
  ])('is not asked for again where the process %s', async (_, state) => {
    const { engine, started } = engineOf({ answers: [CUT], remembers: false, ...(state ? { state } : {}) })
    expect(await start(engine)).toBe(false)
    expect(started).toEqual([ID])
  })

  it('is not asked for again of an engine that was restarted: its `created` may stand for a process that has ended', async () => {
    const { engine, started } = engineOf({ answers: [CUT], state: { status: 'created' }, remembers: false })
    await expect(start(engine)).rejects.toMatchObject({
      fault: 'unavailable',
      message: expect.stringContaining('whether the process began is not known'),
      details: { hint: expect.stringContaining('before you run it again') },
    })
    expect(started).toEqual([ID])
  })

  it('is asked about until the engine can be asked, which goes away before that is known', async () => {
    const { engine, started } = engineOf({
      answers: [CUT],
      state: { status: 'running', startedAt: new Date() },
      unreachable: 2,
    })
    expect(await start(engine)).toBe(false)
    expect(started).toEqual([ID])
  })

  it('is told as one that may have happened where no start of several was answered', async () => {
    const { engine, started } = engineOf({ answers: [CUT, CUT, CUT], state: { status: 'created' } })
    await expect(start(engine)).rejects.toMatchObject({
      details: { hint: expect.stringContaining('before you run it') },
    })
    expect(started).toEqual([ID, ID, ID])
  })

  it('is given up with its run', async () => {
    const { engine } = engineOf({ answers: [CUT], state: { status: 'created' } })
    engine.availability.set(false)
    await expect(startOnce(engine, ID, AbortSignal.abort(new Error('the run is over')))).rejects.toThrow('is over')
  })

  it('is waited for while the engine is away', async () => {
    const { engine, started } = engineOf({ answers: [CUT], state: { status: 'running', startedAt: new Date() } })
    engine.availability.set(false)
    setTimeout(() => engine.availability.set(true), 20)
    expect(await start(engine)).toBe(false)
    expect(engine.availability.isAvailable).toBe(true)
    expect(started).toEqual([ID])
  })
})

it('tells a start that was answered from one that was not', async () => {
  const { engine, started } = engineOf({ answers: [] })
  expect(await start(engine)).toBe(true)
  expect(started).toEqual([ID])
})

it('blames the engine for what a start that broke off has left, and the command for its own first start', async () => {
  const refused = new EngineError('start_failed', 'task already exists')
  const again = engineOf({ answers: [CUT, refused], state: { status: 'created' } })
  await expect(start(again.engine)).rejects.toMatchObject({ fault: 'unavailable' })
  await expect(start(engineOf({ answers: [refused] }).engine)).rejects.toBe(refused)
})
