import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { CommandGate } from '../../../src/managers/command-gate.ts'
import { rejection } from '../support/streams.ts'

const LONG = 5_000

describe('CommandGate', () => {
  it('lets one piece of work in after the other, with no command between', async () => {
    const gate = new CommandGate()
    const inside = await gate.enter()
    const events: string[] = []
    const work = (name: string) => async () => {
      events.push(`${name} begins`)
      await setImmediate()
      events.push(`${name} ends`)
    }
    const both = [gate.closed(LONG, work('first')), gate.closed(LONG, work('second'))]
    inside()
    await Promise.all(both)
    expect(events).toEqual(['first begins', 'first ends', 'second begins', 'second ends'])
    await gate.enter()
    expect(gate.busy).toBe(true)
  })

  it('is busy while a command is inside', async () => {
    const gate = new CommandGate()
    expect(gate.busy).toBe(false)
    const one = await gate.enter()
    const two = await gate.enter()
    expect(gate.busy).toBe(true)
    one()
    expect(gate.busy).toBe(true)
    two()
    expect(gate.busy).toBe(false)
  })

  it('takes no more than it can hold at once', async () => {
    const gate = new CommandGate()
    const leave = await Promise.all(Array.from({ length: 64 }, () => gate.enter()))
    expect(await rejection(gate.enter())).toMatchObject({ code: 'quota_exceeded' })
    leave[0]?.()
    await gate.enter()
  })

  it('counts an end once, however often it is told', async () => {
    const gate = new CommandGate()
    const one = await gate.enter()
    const two = await gate.enter()
    one()
    one()
    expect(gate.busy).toBe(true)
    two()
    expect(gate.busy).toBe(false)
  })

  it('works at once where no command is inside, and gives what came of it', async () => {
    expect(await new CommandGate().closed(0, async () => 7)).toBe(7)
  })

  it('works once the last command has ended', async () => {
    const gate = new CommandGate()
    const events: string[] = []
    const one = await gate.enter()
    const two = await gate.enter()
    const closed = gate.closed(LONG, async () => events.push('work'))
    await setImmediate()
    events.push('first end')
    one()
    await setImmediate()
    events.push('last end')
    two()
    await closed
    expect(events).toEqual(['first end', 'last end', 'work'])
  })

  it('holds new commands back from then on, until the work is done', async () => {
    const gate = new CommandGate()
    const events: string[] = []
    const inside = await gate.enter()
    const work = Promise.withResolvers<void>()
    const closed = gate.closed(LONG, async () => {
      events.push('work begins')
      await work.promise
      events.push('work ends')
    })
    const waiting = [1, 2].map((number) => gate.enter().then(() => events.push(`command ${number}`)))
    await setImmediate()
    expect(events).toEqual([])
    inside()
    await setImmediate()
    expect(gate.busy).toBe(false)
    expect(events).toEqual(['work begins'])
    work.resolve()
    await Promise.all([closed, ...waiting])
    expect(events).toEqual(['work begins', 'work ends', 'command 1', 'command 2'])
    expect(gate.busy).toBe(true)
  })

  it('refuses at once where it is not to wait, and keeps no one out', async () => {
    const gate = new CommandGate()
    const end = await gate.enter()
    let worked = false
    const refused = await rejection(
      gate.closed(0, async () => {
        worked = true
      }),
    )
    expect(refused).toMatchObject({ code: 'conflict', message: '1 command runs in the worker' })
    expect(worked).toBe(false)
    await gate.enter()
    end()
  })

  it('refuses after the time that it waits, and lets new commands in again', async () => {
    const gate = new CommandGate()
    const ends = [await gate.enter(), await gate.enter()]
    let worked = false
    const closed = gate.closed(20, async () => {
      worked = true
    })
    const waiting = gate.enter()
    expect(await rejection(closed)).toMatchObject({ code: 'conflict', message: '2 commands run in the worker' })
    expect(worked).toBe(false)
    ends.push(await waiting)
    for (const end of ends) end()
    expect(gate.busy).toBe(false)
    expect(await gate.closed(0, async () => 'works')).toBe('works')
  })

  it('opens again after work that failed', async () => {
    const gate = new CommandGate()
    const failure = new Error('the engine is away')
    const closed = gate.closed(0, () => Promise.reject(failure))
    const waiting = gate.enter()
    expect(await rejection(closed)).toBe(failure)
    await waiting
    expect(gate.busy).toBe(true)
  })
})
