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

/** To when what the start left is collected. */
async function beginAndCollect(): Promise<void> {
  begin()
  for (let look = 0; look < 4; look++) await pass(0)
  expect(collect).toHaveBeenCalledTimes(1)
  collect.mockClear()
}

/** Two seconds with so many milliseconds of work. */
async function pass(milliseconds: number): Promise<void> {
  cpu += milliseconds * 1_000
  await vi.advanceTimersByTimeAsync(2_000)
}

it('collects what a start left when nothing has happened for eight seconds, once', async () => {
  begin()
  await pass(900)
  for (let look = 0; look < 3; look++) await pass(19)
  expect(collect).not.toHaveBeenCalled()
  await pass(19)
  expect(collect).toHaveBeenCalledTimes(1)
  for (let look = 0; look < 5; look++) await pass(0)
  expect(collect).toHaveBeenCalledTimes(1)
})

it('collects again when memory has grown since', async () => {
  await beginAndCollect()
  memory = 119 * MIB
  for (let look = 0; look < 5; look++) await pass(0)
  expect(collect).not.toHaveBeenCalled()
  memory = 121 * MIB
  for (let look = 0; look < 4; look++) await pass(0)
  expect(collect).toHaveBeenCalledTimes(1)
})

it('counts growth from where memory was least, however it came there', async () => {
  await beginAndCollect()
  memory = 90 * MIB
  await pass(100)
  memory = 107 * MIB
  for (let look = 0; look < 4; look++) await pass(0)
  expect(collect).toHaveBeenCalledTimes(1)
})

it('leaves a process alone that works', async () => {
  begin()
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
