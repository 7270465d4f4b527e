import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { EngineEvent } from '../../../src/engine/engine.ts'
import { MemoryEngine } from '../../../src/engine/memory/memory-engine.ts'
import { DockerManager } from '../../../src/managers/docker-manager.ts'
import { EngineWatch } from '../../../src/managers/engine-watch.ts'
import { KnownContainers } from '../../../src/managers/known-containers.ts'
import type { Reconciler } from '../../../src/managers/reconciler.ts'
import { Store } from '../../../src/store/store.ts'
import { temporaryFolder } from '../support/folders.ts'

const log = pino({ level: 'silent' })
let store: Store
let engine: MemoryEngine
let watch: EngineWatch
let known: KnownContainers
const queue = { suspend: vi.fn(), resume: vi.fn() }
const reconcile = vi.fn(async () => {})

beforeEach(async () => {
  vi.clearAllMocks()
  store = await Store.open(await temporaryFolder())
  engine = new MemoryEngine()
  const docker = new DockerManager({ engine, instance: store.instance, log })
  known = new KnownContainers({ engine, docker, onGone: () => {} })
  watch = new EngineWatch({
    engine,
    store,
    docker,
    known,
    queue,
    reconciler: { reconcile } as unknown as Reconciler,
    log,
  })
})
afterEach(async () => {
  await watch.end()
  await store.close()
})

/** Events that end when told to, without one. */
async function* endingWith(end: Promise<void>): AsyncGenerator<EngineEvent> {
  await end
  yield* []
}

async function told(): Promise<string[]> {
  const types: string[] = []
  const over = new AbortController()
  const last = await store.events.last()
  for await (const { id, type } of store.events.follow(0, {}, over.signal)) {
    types.push(type)
    if (id === last) over.abort()
  }
  return types
}

describe('EngineWatch', () => {
  it('tells when the engine goes and comes back, and lets nobody begin in between', async () => {
    watch.begin()
    engine.availability.set(false)
    await vi.waitFor(() => expect(queue.suspend).toHaveBeenCalledWith('engine'))
    expect(queue.resume).not.toHaveBeenCalled()
    engine.availability.set(true)
    await vi.waitFor(() => expect(queue.resume).toHaveBeenCalledWith('engine'))
    await vi.waitFor(async () => expect(await told()).toEqual(['engine.unavailable', 'engine.available']))
  })

  it('reconciles whenever the events had a gap, and not where they begin', async () => {
    const breaks: (() => void)[] = []
    engine.events = async () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      breaks.push(resolve)
      return endingWith(promise)
    }
    watch.begin()
    await vi.waitFor(() => expect(breaks).toHaveLength(1))
    expect(reconcile).not.toHaveBeenCalled()
    breaks[0]?.()
    await vi.waitFor(() => expect(reconcile).toHaveBeenCalledTimes(1), { timeout: 5_000 })
    expect(breaks).toHaveLength(2)
    breaks[1]?.()
    await vi.waitFor(() => expect(reconcile).toHaveBeenCalledTimes(2), { timeout: 5_000 })
    await vi.waitFor(() => expect(breaks).toHaveLength(3))
    breaks[2]?.()
  })

  it('says what happened to containers, and when that is not told any more', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const id = 'c'.repeat(64)
    engine.events = async () =>
      (async function* () {
        yield { containerId: id, action: 'start', at: new Date() }
        await promise
      })()
    const [followed, heard, unfollowed] = [
      vi.spyOn(known, 'followed'),
      vi.spyOn(known, 'heard'),
      vi.spyOn(known, 'unfollowed'),
    ]
    watch.begin()
    await vi.waitFor(() => expect(heard).toHaveBeenCalledWith('start', id))
    expect(followed).toHaveBeenCalledTimes(1)
    expect(unfollowed).not.toHaveBeenCalled()
    resolve()
    await vi.waitFor(() => expect(unfollowed).toHaveBeenCalledTimes(1))
  })

  it('waits with following for an engine that is away', async () => {
    engine.availability.set(false)
    const events = vi.spyOn(engine, 'events')
    watch.begin()
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(events).not.toHaveBeenCalled()
    engine.availability.set(true)
    await vi.waitFor(() => expect(events).toHaveBeenCalledTimes(1))
  })
})
