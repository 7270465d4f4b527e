import { cachedDataVersionTag } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, it, vi } from 'vitest'
import { collectAll, collectYoung } from '../../src/garbage.ts'

const MIB = 1024 ** 2

it('collects what nobody holds any more', async () => {
  const held = new WeakRef({ text: 'garbage' })
  // What a reference leads to is kept until the turn of the event loop ends.
  await new Promise((resolve) => setImmediate(resolve))
  collectAll()
  expect(held.deref() === undefined).toBe(true)
})

it('collects buffers that were made last', async () => {
  collectYoung()
  const before = process.memoryUsage().arrayBuffers
  for (let made = 0; made < 8; made++) Buffer.alloc(MIB)
  expect(process.memoryUsage().arrayBuffers - before).toBeGreaterThanOrEqual(8 * MIB)
  collectYoung()
  // They are freed beside the program.
  await vi.waitFor(() => expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(MIB))
})

it('leaves V8 with the flags that it had', async () => {
  vi.resetModules()
  const fresh = await import('../../src/garbage.ts')
  const before = cachedDataVersionTag()
  fresh.collectYoung()
  expect(cachedDataVersionTag()).toBe(before)
  expect(runInNewContext('typeof gc')).toBe('undefined')
})
