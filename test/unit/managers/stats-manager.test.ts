import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { MemoryEngine } from '../../../src/engine/memory/memory-engine.ts'
import { DockerManager } from '../../../src/managers/docker-manager.ts'
import { KnownContainers } from '../../../src/managers/known-containers.ts'
import { StatsManager } from '../../../src/managers/stats-manager.ts'
import { StatsStreams } from '../../../src/managers/stats-streams.ts'
import { Store } from '../../../src/store/store.ts'
import { leastContainer } from '../../fixtures/container-spec.ts'
import { TOOLBOX } from '../../fixtures/images.ts'
import { temporaryFolder } from '../support/folders.ts'

const log = pino({ level: 'silent' })
let store: Store
let engine: MemoryEngine
let docker: DockerManager
let known: KnownContainers
let streams: StatsStreams
let stats: StatsManager

beforeEach(async () => {
  store = await Store.open(await temporaryFolder())
  engine = new MemoryEngine()
  docker = new DockerManager({
    engine,
    instance: store.instance,
    log,
    onHandOver: (id) => known.changed('handOver', id),
  })
  streams = new StatsStreams({ containers: engine.containers, oneShot: false })
  known = new KnownContainers({ engine, docker, onGone: (id) => streams.forget(id) })
  stats = new StatsManager({ known, streams, ownership: store.ownership })
  known.followed()
})
afterEach(async () => {
  streams.close()
  await store.close()
})

async function run(name: string, session = 's', kind: 'worker' | 'pool' = 'worker'): Promise<string> {
  const imageId = (await engine.images.inspect(TOOLBOX))?.id ?? ''
  const owner = { kind, id: `${kind}_${name}`, name, session, nonce: randomUUID() } as const
  const plan = leastContainer({ name: randomUUID(), imageId, command: ['sleep', '600'] })
  const id = await docker.create({ owner, containerName: plan.name, imageId, plan, network: { mode: 'none' } })
  await engine.containers.start(id)
  known.heard('start', id)
  return id
}

describe('StatsManager', () => {
  it('asks the engine for one stream of each container, one list and one inspect, whoever asks and how often', async () => {
    const ids = await Promise.all(['w1', 'w2', 'w3'].map((name) => run(name)))
    const calls = {
      stats: vi.spyOn(engine.containers, 'stats'),
      list: vi.spyOn(engine.containers, 'list'),
      inspect: vi.spyOn(engine.containers, 'inspect'),
    }
    const following = stats.follow('w1', AbortSignal.timeout(10_000))
    await Promise.all([
      stats.all(),
      stats.all({ session_id: 's' }),
      stats.one('w1'),
      stats.one(ids[1] ?? ''),
      following.next(),
    ])
    for (let round = 0; round < 5; round++) await stats.all()
    await following.next()
    await following.return(undefined)
    expect(calls.stats).toHaveBeenCalledTimes(3)
    expect(calls.list).toHaveBeenCalledTimes(1)
    expect(calls.inspect).toHaveBeenCalledTimes(3)
  })

  it('tells those of one session and kind, and of one container by its ids', async () => {
    const id = await run('w1')
    await run('w2', 'other')
    const { items, totals } = await stats.all({ session_id: 's', kind: 'worker' })
    expect(items).toMatchObject([
      { container_id: id, id: 'w1', status: 'running', cpu_percent: expect.any(Number), memory_used_mb: 1 },
    ])
    expect(totals).toMatchObject({ containers: 1, running: 1, memory_used_mb: 1 })
    expect((await stats.all({ kind: 'tool' })).items).toEqual([])
    for (const each of [id, 'w1']) expect(await stats.one(each)).toMatchObject({ container_id: id })
    await expect(stats.one('nobody')).rejects.toMatchObject({ code: 'not_found' })
    await expect(stats.one('worker_w1')).rejects.toMatchObject({ code: 'not_found' })
  })

  it('tells a restarted container’s own time and use', async () => {
    const id = await run('w1')
    await sleep(600)
    const { running_for_seconds: before } = await stats.one('w1')
    expect(before).toBeGreaterThan(0.5)
    await engine.containers.stop(id, 0)
    known.heard('die', id)
    expect(await stats.one('w1')).toMatchObject({ status: 'exited', running_for_seconds: null, memory_used_mb: null })
    await engine.containers.start(id)
    known.heard('start', id)
    const after = await stats.one('w1')
    expect(after.running_for_seconds).toBeLessThan(before ?? 0)
    expect(after).toMatchObject({ status: 'running', cpu_percent: 1, memory_used_mb: 1 })
  })

  it('tells of a parked container once it is a run’s, and from then on', async () => {
    const id = await run('1', 's', 'pool')
    expect((await stats.all()).items).toEqual([])
    await sleep(600)
    const handedOver = Date.now()
    docker.handOver(id, 'pool_1', { kind: 'tool', id: 'exec_1', session: 's', nonce: randomUUID() })
    const [told] = (await stats.all({ session_id: 's', kind: 'tool' })).items
    expect(told).toMatchObject({ container_id: id, id: 'exec_1', session_id: 's', memory_used_mb: 1 })
    expect(told?.running_for_seconds).toBeLessThan((Date.now() - handedOver) / 1000 + 0.1)
    expect(await stats.one('exec_1')).toMatchObject({ container_id: id })
  })

  it('tells of a frozen container what it holds', async () => {
    const id = await run('w1')
    await engine.containers.pause(id)
    known.heard('pause', id)
    expect(await stats.one('w1')).toMatchObject({ status: 'paused', memory_used_mb: 1 })
  })

  it('adds the samples of the time that is asked for, and keeps them over an end of the process', async () => {
    const id = await run('w1')
    expect(await stats.one('w1')).not.toHaveProperty('history')
    await sleep(500)
    const { history = [], sampled_at } = await stats.one('w1', 60)
    expect(history.length).toBeGreaterThanOrEqual(3)
    expect(history.at(-1)?.sampled_at).toBe(sampled_at)
    expect(history.map(({ cpu_percent }) => cpu_percent).slice(1)).toEqual(history.slice(1).map(() => 1))
    await engine.containers.stop(id, 0)
    known.heard('die', id)
    const ended = await stats.one('w1', 60)
    expect(ended.sampled_at).toBeNull()
    expect(ended.history?.length).toBeGreaterThanOrEqual(history.length)
    await engine.containers.remove(id)
    known.heard('destroy', id)
    await expect(stats.one('w1', 60)).rejects.toMatchObject({ code: 'not_found' })
    expect(streams.known(id)).toBeUndefined()
  })

  it('is followed sample by sample until the process ends', async () => {
    const id = await run('w1')
    const told: (string | null)[] = []
    let status = ''
    for await (const each of stats.follow('w1', AbortSignal.timeout(10_000), 60)) {
      expect(each.history === undefined).toBe(told.length > 0)
      told.push(each.sampled_at)
      status = each.status
      if (told.length === 4) {
        await engine.containers.kill(id)
        await engine.containers.wait(id)
        known.heard('die', id)
      }
    }
    expect(status).toBe('exited')
    expect(told).toHaveLength(5)
    expect(new Set(told).size).toBe(5)
  })

  it('is followed until the container is gone, or the caller', async () => {
    const id = await run('w1')
    await run('w2')
    const following = stats.follow('w1', AbortSignal.timeout(10_000))
    await following.next()
    await engine.containers.remove(id)
    known.heard('destroy', id)
    expect(await following.next()).toMatchObject({ done: true })

    const caller = new AbortController()
    const other = stats.follow('w2', caller.signal)
    await other.next()
    caller.abort()
    expect(await other.next()).toMatchObject({ done: true })
  })
})
