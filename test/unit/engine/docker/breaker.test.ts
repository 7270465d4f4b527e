import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Breaker } from '../../../../src/engine/docker/breaker.ts'
import { EngineError } from '../../../../src/errors.ts'
import { rejection } from '../../support/streams.ts'

const away = () => Promise.reject(new EngineError('unavailable', 'no engine'))
const answers = () => Promise.resolve()

let probe = vi.fn(answers)
let breaker: Breaker
beforeEach(() => {
  vi.useFakeTimers()
  probe = vi.fn(answers)
  breaker = new Breaker(() => probe())
})
afterEach(() => {
  breaker.close()
  vi.useRealTimers()
})

const guarded = (call: () => Promise<unknown>) => breaker.guard('testing', call)

describe('Breaker', () => {
  it('lets calls through, and their failures too', async () => {
    expect(await guarded(async () => 42)).toBe(42)
    const refused = new EngineError('conflict', 'no')
    expect(await rejection(guarded(() => Promise.reject(refused)))).toBe(refused)
    expect(probe).not.toHaveBeenCalled()
    expect(breaker.availability.isAvailable).toBe(true)
  })

  it('stays closed where the engine gives a sign of life after a call that failed', async () => {
    await rejection(guarded(away))
    await vi.advanceTimersByTimeAsync(0)
    expect(probe).toHaveBeenCalledTimes(1)
    expect(breaker.availability.isAvailable).toBe(true)
    expect(breaker.availability.lostAt).toBeUndefined()
  })

  it('opens where it gives none: calls fail at once, unsent, until it does', async () => {
    probe.mockImplementation(away)
    await rejection(guarded(() => Promise.reject(new EngineError('deadline', 'too late'))))
    await vi.advanceTimersByTimeAsync(0)
    expect(breaker.availability.isAvailable).toBe(false)
    const call = vi.fn(answers)
    expect(await rejection(guarded(call))).toMatchObject({
      code: 'engine_unavailable',
      fault: 'unavailable',
      details: { retryAfterSeconds: expect.any(Number) },
    })
    expect(call).not.toHaveBeenCalled()
    const restored = breaker.availability.restored(new AbortController().signal)
    probe.mockImplementation(answers)
    await restored
    expect(await guarded(async () => 'again')).toBe('again')
    expect(breaker.availability.lostAt).toBeInstanceOf(Date)
  })

  it('probes once at a time, however many calls fail', async () => {
    let settle = () => {}
    probe.mockImplementation(() => new Promise((resolve) => (settle = resolve)))
    await Promise.all([1, 2, 3].map(() => rejection(guarded(away))))
    expect(probe).toHaveBeenCalledTimes(1)
    settle()
  })

  it('finds by its heartbeat an engine that froze while nobody asked', async () => {
    breaker.watch()
    probe.mockImplementation(away)
    const changes: boolean[] = []
    breaker.availability.onChange((available) => changes.push(available))
    await vi.advanceTimersByTimeAsync(5_000)
    probe.mockImplementation(answers)
    await breaker.availability.restored(new AbortController().signal)
    expect(changes).toEqual([false, true])
  })

  it('asks no more once it is closed', async () => {
    breaker.watch()
    probe.mockImplementation(away)
    await vi.advanceTimersByTimeAsync(5_000)
    breaker.close()
    const asked = probe.mock.calls.length
    vi.useRealTimers()
    await new Promise((resolve) => setTimeout(resolve, 600))
    expect(probe.mock.calls.length).toBe(asked)
  })
})

describe('Availability', () => {
  it('ends the waiting for an engine with its owner', async () => {
    breaker.availability.set(false)
    const owner = new AbortController()
    const waiting = rejection(breaker.availability.restored(owner.signal))
    owner.abort()
    expect(await waiting).toMatchObject({ name: 'AbortError' })
  })
})
