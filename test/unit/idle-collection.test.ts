import { cachedDataVersionTag } from 'node:v8'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { collectAll, collectWhenIdle } from '../../src/idle-collection.ts'

const MIB = 1024 ** 2
const log = { debug() {}, info() {}, warn() {}, error() {} }

let memory = 100 * MIB
let cpu = 0
const collect = vi.fn(() => {
  memory = 104 * MIB
})

beforeEach(() => {
  vi.useFakeTimers()
  memory = 100 * MIB
  cpu = 0
  collect.mockClear()
})
afterEach(() => {
  vi.useRealTimers()
})

function begin() {
  return collectWhenIdle({ log, collect, resident: () => memory, used: () => cpu })
}

/** Two seconds with so many milliseconds of work. */
async function pass(milliseconds: number): Promise<void> {
  cpu += milliseconds * 1_000
  await vi.advanceTimersByTimeAsync(2_000)
}

it('collects when nothing has happened for eight seconds and memory has grown, once', async () => {
  begin()
  memory = 117 * MIB
  await pass(900)
  for (let look = 0; look < 3; look++) await pass(19)
  expect(collect).not.toHaveBeenCalled()
  await pass(19)
  expect(collect).toHaveBeenCalledTimes(1)
  for (let look = 0; look < 5; look++) await pass(0)
  expect(collect).toHaveBeenCalledTimes(1)
  memory = 121 * MIB
  for (let look = 0; look < 4; look++) await pass(0)
  expect(collect).toHaveBeenCalledTimes(2)
})

it('leaves a process alone that works, or has not grown by much', async () => {
  begin()
  memory = 115 * MIB
  for (let look = 0; look < 5; look++) await pass(0)
  memory = 300 * MIB
  for (let look = 0; look < 5; look++) await pass(21)
  for (let look = 0; look < 12; look++) await pass(look % 4 === 3 ? 21 : 0)
  expect(collect).not.toHaveBeenCalled()
})

it('ends when it is told to', async () => {
  const end = begin()
  memory = 300 * MIB
  end()
  for (let look = 0; look < 5; look++) await pass(0)
  expect(collect).not.toHaveBeenCalled()
})

it('collects what nobody holds any more, and leaves V8 with the flags that it had', async () => {
  vi.useRealTimers()
  const flagsBefore = cachedDataVersionTag()
  const held = new WeakRef({ text: 'garbage' })
  // What a reference leads to is kept until the turn of the event loop ends.
  await new Promise((resolve) => setImmediate(resolve))
  collectAll()
  expect(held.deref() === undefined).toBe(true)
  expect(cachedDataVersionTag()).toBe(flagsBefore)
  expect(globalThis).not.toHaveProperty('gc')
})
