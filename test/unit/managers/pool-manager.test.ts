import { randomUUID } from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import timers from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { MemoryEngine } from '../../../src/engine/memory/memory-engine.ts'
import { EngineError } from '../../../src/errors.ts'
import { ColdStarts } from '../../../src/managers/cold-starts.ts'
import { DockerManager } from '../../../src/managers/docker-manager.ts'
import type { ParkedContainer } from '../../../src/managers/parked-container.ts'
import type { ParkingPlan } from '../../../src/managers/parking-plan.ts'
import { PoolManager, type PoolManagerOptions } from '../../../src/managers/pool-manager.ts'
import { leastContainer } from '../../fixtures/container-spec.ts'
import { TOOLBOX } from '../../fixtures/images.ts'

const MB = 1024 ** 2
const SECOND = 1_000
const MINUTE = 60 * SECOND

let engine: MemoryEngine
let docker: DockerManager
let pool: PoolManager
let imageId: string
let coldStarts: ColdStarts
/** What the service would say of itself. */
let state: { isBusy: boolean; mayPark: boolean }

beforeEach(async () => {
  vi.useFakeTimers()
  vi.spyOn(timers, 'setTimeout').mockImplementation(globalTimeout as typeof timers.setTimeout)
  syncBuiltinESMExports()
  engine = new MemoryEngine()
  imageId = (await engine.images.inspect(TOOLBOX))?.id ?? ''
  docker = new DockerManager({ engine, instance: randomUUID(), log: pino({ level: 'silent' }) })
  coldStarts = new ColdStarts()
  state = { isBusy: false, mayPark: true }
  pool = poolOf({ max: 4, memoryBytes: 10_000 * MB })
})
afterEach(async () => {
  await pool.end()
  vi.restoreAllMocks()
  syncBuiltinESMExports()
  vi.useRealTimers()
})

/** That of node:timers/promises by the global one, which alone is what Vitest's fake timers know. */
function globalTimeout<T>(ms: number, value: T, { signal }: { signal?: AbortSignal } = {}): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(value), ms)
    const abort = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    if (signal?.aborted) abort()
    else signal?.addEventListener('abort', abort, { once: true })
  })
}

function poolOf(bounds: Pick<PoolManagerOptions, 'max' | 'memoryBytes'>): PoolManager {
  return new PoolManager({
    ...bounds,
    engine,
    docker,
    coldStarts,
    toolbox: { mount: async () => ({ type: 'volume', source: 'toolbox', target: '/.toolbox', readOnly: true }) },
    loopback: {
      attachment: async () => ({ mode: 'none' }),
      made: (network: object, make: (network: object) => unknown) => make(network),
    },
    collector: { outputBefore: async () => undefined },
    mayPark: () => state.mayPark,
    isBusy: () => state.isBusy,
    log: pino({ level: 'silent' }),
  } as unknown as PoolManagerOptions)
}

/** A kind of container. */
function kind(key: string, memoryMb = 64): ParkingPlan {
  const {
    name: _name,
    imageId: _image,
    labels: _labels,
    network: _network,
    ...container
  } = leastContainer({
    name: '',
    imageId,
    command: ['/.toolbox/tool-start'],
    openStdin: true,
  })
  const resources = { ...container.resources, memoryBytes: memoryMb * MB }
  const plan = { ...container, resources }
  return { key, imageId, network: 'none', container: plan, folders: [], opensFolders: false, labels: {} }
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)
const containers = () => engine.containers.list({})

/** A run that begins and ends at once, and what it found. */
function run(plan: ParkingPlan): ParkedContainer | undefined {
  const found = pool.take(plan)
  pool.ended(plan)
  return found
}

/** As many runs of a kind at once, which makes as many parked. */
async function park(plan: ParkingPlan, count = 1): Promise<void> {
  for (let run = 0; run < count; run++) pool.take(plan)
  for (let run = 0; run < count; run++) pool.ended(plan)
  await pass(SECOND)
}

describe('what is parked', () => {
  it('follows what was asked for: nothing, then one of a kind, for whoever is next', async () => {
    await pass(MINUTE)
    expect(await containers()).toEqual([])
    expect(run(kind('a'))).toBeUndefined()
    await pass(SECOND)
    expect(pool.report).toMatchObject({ parked: 1, wanted: 1, memory_mb: 64, hits: 0, misses: 1 })
    expect(await containers()).toMatchObject([{ status: 'running' }])
    expect(run(kind('b'))).toBeUndefined()
    expect(run(kind('a'))?.plan.key).toBe('a')
    expect(pool.report).toMatchObject({ hits: 1, misses: 2 })
    await pass(SECOND)
    expect(pool.report).toMatchObject({ parked: 2, wanted: 2 })
  })

  it('grows to as many as were asked for at once', async () => {
    await park(kind('a'), 3)
    expect(pool.report).toMatchObject({ parked: 3, wanted: 3, memory_mb: 192 })
  })

  it('is never given to two', async () => {
    await park(kind('a'), 4)
    const taken = Array.from({ length: 6 }, () => pool.take(kind('a')))
    const ids = taken.flatMap((container) => container?.containerId ?? [])
    expect(ids).toHaveLength(4)
    expect(new Set(ids).size).toBe(4)
    expect(taken.slice(4)).toEqual([undefined, undefined])
  })

  it('is claimed until it is taken, and while it is made', async () => {
    const claimed: boolean[] = []
    const { start } = engine.containers
    vi.spyOn(engine.containers, 'start').mockImplementation(async (id) => {
      const [made] = await containers()
      claimed.push(pool.claims(made?.name ?? ''))
      await start.call(engine.containers, id)
    })
    await park(kind('a'))
    const [made] = await containers()
    expect([...claimed, pool.claims(made?.name ?? '')]).toEqual([true, true])
    pool.take(kind('a'))
    expect(pool.claims(made?.name ?? '')).toBe(false)
  })

  it('is bounded in number', async () => {
    await park(kind('a'), 9)
    expect(pool.report).toMatchObject({ parked: 4, wanted: 4, max: 4 })
    expect(await containers()).toHaveLength(4)
  })

  it('is bounded in memory', async () => {
    await pool.end()
    pool = poolOf({ max: 4, memoryBytes: 512 * MB })
    await park(kind('large', 300), 3)
    await park(kind('small', 100), 3)
    expect(pool.report).toMatchObject({ parked: 3, memory_mb: 500 })
    await park(kind('never', 600))
    expect(pool.report).toMatchObject({ parked: 3, memory_mb: 500 })
  })

  it('is nothing where none is allowed', async () => {
    await pool.end()
    pool = poolOf({ max: 0, memoryBytes: 512 * MB })
    expect(pool.isOn).toBe(false)
    await park(kind('a'))
    expect(await containers()).toEqual([])
  })
})

describe('parking stays out of the way', () => {
  it('of a container that starts, and goes on when it has', async () => {
    const started = coldStarts.begin()
    await park(kind('a'))
    await pass(MINUTE)
    expect(pool.report).toMatchObject({ parked: 0, wanted: 1 })
    started()
    started()
    await pass(SECOND)
    expect(pool.report.parked).toBe(1)
  })

  it('of runs that wait for their turn', async () => {
    state.isBusy = true
    await park(kind('a'))
    await pass(MINUTE)
    expect(pool.report.parked).toBe(0)
    state.isBusy = false
    await pass(16 * SECOND)
    expect(pool.report.parked).toBe(1)
  })

  it('of a run under way, for a second at most', async () => {
    pool.take(kind('a'))
    await pass(900)
    expect(pool.report.parked).toBe(0)
    await pass(200)
    expect(pool.report.parked).toBe(1)
  })

  it('of a service that makes nothing now', async () => {
    state.mayPark = false
    await park(kind('a'))
    await pass(MINUTE)
    expect(await containers()).toEqual([])
    state.mayPark = true
    await pass(16 * SECOND)
    expect(pool.report.parked).toBe(1)
  })
})

describe('room for a kind that is asked for', () => {
  it('is not made by giving up what was wanted in the last half minute', async () => {
    await park(kind('old'), 4)
    await pass(20 * SECOND)
    await park(kind('new'))
    expect(pool.take(kind('old'))).toBeDefined()
    expect(pool.take(kind('new'))).toBeUndefined()
  })

  it('is made by giving up what was wanted longest ago', async () => {
    await park(kind('oldest'), 2)
    await park(kind('older'), 2)
    await pass(31 * SECOND)
    await park(kind('new'))
    await docker.settled()
    expect(await containers()).toHaveLength(4)
    expect([pool.take(kind('oldest')), pool.take(kind('oldest'))]).toEqual([expect.anything(), undefined])
    expect([pool.take(kind('older')), pool.take(kind('older'))]).toEqual([expect.anything(), expect.anything()])
    expect(pool.take(kind('new'))).toBeDefined()
  })

  it('is not made in vain', async () => {
    await pool.end()
    pool = poolOf({ max: 4, memoryBytes: 512 * MB })
    await park(kind('old', 100), 3)
    await pass(31 * SECOND)
    await park(kind('too large', 600))
    expect(pool.report).toMatchObject({ parked: 3, memory_mb: 300 })
  })
})

describe('what is not used', () => {
  it('goes, one every five minutes', async () => {
    await park(kind('a'), 3)
    const parkedAfter: number[] = []
    for (let minutes = 0; minutes < 20; minutes += 5) {
      await pass(5 * MINUTE + 15 * SECOND)
      parkedAfter.push(pool.report.parked)
    }
    expect(parkedAfter).toEqual([2, 1, 0, 0])
    await docker.settled()
    expect(await containers()).toEqual([])
    expect(pool.report.wanted).toBe(0)
  })

  it('stays while its kind is asked for', async () => {
    await park(kind('a'), 3)
    for (let minutes = 0; minutes < 20; minutes += 4) {
      await pass(4 * MINUTE)
      run(kind('a'))
    }
    await pass(SECOND)
    expect(pool.report.parked).toBe(3)
  })
})

describe('what cannot be parked', () => {
  it('is not tried again at once, and keeps no other kind from it', async () => {
    const create = vi.spyOn(engine.containers, 'create')
    create.mockRejectedValueOnce(new EngineError('not_found', 'no such image'))
    await park(kind('broken'))
    await park(kind('sound'))
    expect(pool.report).toMatchObject({ parked: 1, wanted: 1 })
    await park(kind('broken'), 3)
    expect(create).toHaveBeenCalledTimes(2)
  })

  it('is tried again when it is wanted again a while later', async () => {
    const create = vi.spyOn(engine.containers, 'create')
    create.mockRejectedValueOnce(new EngineError('not_found', 'no such image'))
    await park(kind('a'))
    await pass(MINUTE)
    expect(create).toHaveBeenCalledTimes(1)
    await park(kind('a'))
    expect(pool.report).toMatchObject({ parked: 1, wanted: 1 })
  })

  it('since the engine is away is tried again after a while', async () => {
    const create = vi.spyOn(engine.containers, 'create')
    create.mockRejectedValueOnce(new EngineError('unavailable', 'no engine'))
    await park(kind('a'))
    expect(create).toHaveBeenCalledTimes(1)
    await pass(5 * SECOND)
    expect(pool.report).toMatchObject({ parked: 1, wanted: 1 })
  })

  it('leaves nothing on the engine', async () => {
    vi.spyOn(engine.containers, 'start').mockRejectedValueOnce(new EngineError('start_failed', 'no'))
    await park(kind('a'))
    await docker.settled()
    expect(await containers()).toEqual([])
  })
})

describe('a parked container that ends', () => {
  it('is not handed out, is removed, and is replaced', async () => {
    await park(kind('a'))
    await pass(MINUTE)
    const [first] = await containers()
    await engine.containers.kill(first?.id ?? '')
    await pass(SECOND)
    await docker.settled()
    const after = await containers()
    expect(after).toHaveLength(1)
    expect(after[0]?.id).not.toBe(first?.id)
    expect(pool.take(kind('a'))?.containerId).toBe(after[0]?.id)
  })

  it('is not replaced without end where each ends at once', async () => {
    const { start } = engine.containers
    const starts = vi.spyOn(engine.containers, 'start').mockImplementation(async (id) => {
      await start.call(engine.containers, id)
      await engine.containers.kill(id)
    })
    await park(kind('a'), 3)
    await pass(MINUTE)
    expect(starts).toHaveBeenCalledTimes(1)
    expect(pool.report.parked).toBe(0)
    await docker.settled()
    expect(await containers()).toEqual([])
  })
})

describe('its end', () => {
  it('removes all that is parked, and parks no more', async () => {
    await park(kind('a'), 2)
    run(kind('b'))
    await pool.end()
    run(kind('a'))
    await pass(MINUTE)
    await docker.settled()
    expect(await containers()).toEqual([])
  })

  it('removes one that is being made', async () => {
    const { start } = engine.containers
    let ended: Promise<void> | undefined
    vi.spyOn(engine.containers, 'start').mockImplementation(async (id) => {
      ended = pool.end()
      await start.call(engine.containers, id)
    })
    await park(kind('a'))
    await ended
    await docker.settled()
    expect(await containers()).toEqual([])
  })
})
