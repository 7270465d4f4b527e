import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { MemoryEngine } from '../../../src/engine/memory/memory-engine.ts'
import { EngineError } from '../../../src/errors.ts'
import { ImageCache } from '../../../src/managers/image-cache.ts'

const IMAGE = 'container-orchestrator/toolbox:1'

let engine: MemoryEngine
let cache: ImageCache
let asked: ReturnType<typeof vi.spyOn>

beforeEach(() => {
  engine = new MemoryEngine({ pullable: ['new:1'] })
  asked = vi.spyOn(engine.images, 'inspect')
  cache = new ImageCache({ engine, log: pino({ level: 'silent' }) })
})
afterEach(() => cache.end())

/** Until the cache hears of changes. */
async function following(): Promise<void> {
  const follows = vi.spyOn(engine.images, 'changes')
  cache.begin()
  await vi.waitFor(() => expect(follows.mock.settledResults[0]?.type).toBe('fulfilled'))
  await sleep(0)
}

describe('ImageCache', () => {
  it('asks once for an image that does not change', async () => {
    await following()
    const first = await cache.inspect(IMAGE)
    expect(first?.id).toMatch(/^sha256:/)
    expect(await cache.inspect(IMAGE)).toEqual(first)
    expect(asked).toHaveBeenCalledTimes(1)
  })

  it('asks again when any image came, went or got another name', async () => {
    await following()
    const before = await cache.inspect(IMAGE)
    await engine.images.pull('new:1', {})
    await vi.waitFor(async () => {
      expect((await cache.inspect(IMAGE))?.id).toBe(before?.id)
      expect(asked).toHaveBeenCalledTimes(2)
    })
  })

  it('asks each time for what is not there', async () => {
    await following()
    expect(await cache.inspect('no/such:1')).toBeUndefined()
    expect(await cache.inspect('no/such:1')).toBeUndefined()
    expect(asked).toHaveBeenCalledTimes(2)
  })

  it('keeps nothing before changes are followed, and nothing after that ended', async () => {
    await cache.inspect(IMAGE)
    await cache.inspect(IMAGE)
    expect(asked).toHaveBeenCalledTimes(2)
    await following()
    await cache.inspect(IMAGE)
    await cache.end()
    await cache.inspect(IMAGE)
    expect(asked).toHaveBeenCalledTimes(4)
  })

  it('keeps no answer that was on its way when an image changed', async () => {
    await following()
    const inspecting = cache.inspect(IMAGE)
    cache.forget()
    await inspecting
    await cache.inspect(IMAGE)
    expect(asked).toHaveBeenCalledTimes(2)
  })

  it('forgets all where following breaks, and begins again', async () => {
    const changes = vi.spyOn(engine.images, 'changes')
    let breakOff = () => {}
    changes.mockImplementationOnce(async () => {
      const broken = new Promise<never>((_, reject) => {
        breakOff = () => reject(new EngineError('unavailable', 'the engine is away'))
      })
      return (async function* () {
        yield await broken
      })()
    })
    cache.begin()
    await vi.waitFor(() => expect(changes).toHaveBeenCalledTimes(1))
    await sleep(0)
    await cache.inspect(IMAGE)
    await cache.inspect(IMAGE)
    expect(asked).toHaveBeenCalledTimes(1)
    breakOff()
    await sleep(10)
    await cache.inspect(IMAGE)
    expect(asked).toHaveBeenCalledTimes(2)
    await vi.waitFor(() => expect(changes).toHaveBeenCalledTimes(2), { timeout: 5_000 })
  })
})
