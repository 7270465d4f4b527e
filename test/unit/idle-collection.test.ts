import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { collectWhenIdle } from '../../src/idle-collection.ts'

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
