import { describe, expect, it } from 'vitest'
import { SessionGate } from '../../../src/managers/session-gate.ts'
import { rejection, thrown } from '../support/streams.ts'

const refusal = (gate: SessionGate, session: string) => thrown(() => gate.requireOpen(session))

describe('SessionGate', () => {
  it('is open', () => {
    const gate = new SessionGate()
    expect(gate.requireOpen('a')).toBeUndefined()
    expect(gate.draining).toBe(false)
  })

  it('keeps new work out of a session while it is cleaned up, and out of no other', async () => {
    const gate = new SessionGate()
    const result = await gate.closed('a', async () => {
      expect(refusal(gate, 'a')).toMatchObject({ code: 'conflict', message: expect.stringContaining('"a"') })
      expect(gate.requireOpen('b')).toBeUndefined()
      return 7
    })
    expect(result).toBe(7)
    expect(gate.requireOpen('a')).toBeUndefined()
  })

  it('opens again after a cleanup that failed', async () => {
    const gate = new SessionGate()
    const failure = new Error('the engine is away')
    expect(await rejection(gate.closed('a', () => Promise.reject(failure)))).toBe(failure)
    expect(gate.requireOpen('a')).toBeUndefined()
  })

  it('stays closed until the last of several cleanups has ended', async () => {
    const gate = new SessionGate()
    const first = Promise.withResolvers<void>()
    const second = Promise.withResolvers<void>()
    const one = gate.closed('a', () => first.promise)
    const two = gate.closed('a', () => second.promise)
    first.resolve()
    await one
    expect(refusal(gate, 'a')).toMatchObject({ code: 'conflict' })
    second.resolve()
    await two
    expect(gate.requireOpen('a')).toBeUndefined()
  })

  it('takes no new work for any session once the service stops', async () => {
    const gate = new SessionGate()
    gate.drain()
    expect(gate.draining).toBe(true)
    expect(refusal(gate, 'a')).toMatchObject({ code: 'draining', details: { retryAfterSeconds: 5 } })
    await gate.closed('a', async () => expect(refusal(gate, 'a')).toMatchObject({ code: 'draining' }))
  })
})
