import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { MemoryEngine } from '../../../src/engine/memory/memory-engine.ts'
import { DockerManager } from '../../../src/managers/docker-manager.ts'
import { KnownContainers } from '../../../src/managers/known-containers.ts'
import { leastContainer } from '../../fixtures/container-spec.ts'
import { TOOLBOX } from '../../fixtures/images.ts'

const log = pino({ level: 'silent' })
const onGone = vi.fn()
let engine: MemoryEngine
let docker: DockerManager
let known: KnownContainers
let id: string

beforeEach(async () => {
  vi.restoreAllMocks()
  onGone.mockReset()
  engine = new MemoryEngine()
  docker = new DockerManager({ engine, instance: randomUUID(), log })
  known = new KnownContainers({ engine, docker, onGone })
  id = await make()
  await engine.containers.start(id)
})

async function make(): Promise<string> {
  const imageId = (await engine.images.inspect(TOOLBOX))?.id ?? ''
  const name = randomUUID()
  const owner = { kind: 'worker', id: name, name, session: 's', nonce: randomUUID() } as const
  const spec = leastContainer({ name, imageId, command: ['sleep', '600'] })
  return docker.create({ owner, containerName: name, imageId, plan: spec, network: { mode: 'none' } })
}

const ids = async () => (await known.list()).map((container) => container.id)

describe('KnownContainers', () => {
  it('asks the engine once while its events are followed, and again for whatever changes', async () => {
    const list = vi.spyOn(engine.containers, 'list')
    const inspect = vi.spyOn(engine.containers, 'inspect')
    known.followed()
    for (let round = 0; round < 5; round++) {
      expect(await ids()).toEqual([id])
      expect(await known.startedAt(id)).toBeInstanceOf(Date)
    }
    expect([list.mock.calls.length, inspect.mock.calls.length]).toEqual([1, 1])

    const other = await make()
    known.heard('create', other)
    expect(await ids()).toEqual([id, other])
    expect(await known.startedAt(other)).toBeUndefined()
    await known.startedAt(id)
    expect([list.mock.calls.length, inspect.mock.calls.length]).toEqual([2, 2])

    await engine.containers.start(other)
    known.changed('start', other)
    expect((await known.list()).map(({ status }) => status)).toEqual(['running', 'running'])
    expect(await known.startedAt(other)).toBeInstanceOf(Date)
    expect([list.mock.calls.length, inspect.mock.calls.length]).toEqual([3, 3])
  })

  it('tells the new start of a container that was restarted', async () => {
    known.followed()
    const before = await known.startedAt(id)
    await engine.containers.stop(id, 0)
    await new Promise((resolve) => setTimeout(resolve, 5))
    await engine.containers.start(id)
    known.heard('start', id)
    expect((await known.startedAt(id))?.getTime()).toBeGreaterThan(before?.getTime() ?? Number.POSITIVE_INFINITY)
  })

  it('does not ask again for commands, health checks and attachments', async () => {
    known.followed()
    await ids()
    const list = vi.spyOn(engine.containers, 'list')
    for (const action of ['exec_create: sh -c x', 'exec_start: sh', 'exec_die', 'health_status: healthy', 'attach'])
      known.heard(action, id)
    await ids()
    expect(list).not.toHaveBeenCalled()
    known.heard('an action of a later engine', id)
    await ids()
    expect(list).toHaveBeenCalledTimes(1)
  })

  it('keeps nothing while events are not followed, and nothing over a gap', async () => {
    const list = vi.spyOn(engine.containers, 'list')
    const inspect = vi.spyOn(engine.containers, 'inspect')
    const ask = async () => {
      await ids()
      await known.startedAt(id)
      return [list.mock.calls.length, inspect.mock.calls.length]
    }
    expect(await ask()).toEqual([1, 1])
    expect(await ask()).toEqual([2, 2])
    known.followed()
    expect(await ask()).toEqual([3, 3])
    expect(await ask()).toEqual([3, 3])
    known.unfollowed()
    expect(await ask()).toEqual([4, 4])
    known.followed()
    expect(await ask()).toEqual([5, 5])
  })

  it('does not keep a list during which something changed', async () => {
    known.followed()
    const answers = Promise.withResolvers<Awaited<ReturnType<typeof engine.containers.list>>>()
    const list = vi.spyOn(engine.containers, 'list').mockReturnValueOnce(answers.promise)
    const early = ids()
    known.heard('start', id)
    answers.resolve([])
    expect(await early).toEqual([])
    expect(await ids()).toEqual([id])
    expect(list).toHaveBeenCalledTimes(2)
  })

  it('asks again after a question that failed', async () => {
    known.followed()
    vi.spyOn(engine.containers, 'list').mockRejectedValueOnce(new Error('away'))
    vi.spyOn(engine.containers, 'inspect').mockRejectedValueOnce(new Error('away'))
    await expect(known.list()).rejects.toThrow('away')
    await expect(known.startedAt(id)).rejects.toThrow('away')
    expect(await ids()).toEqual([id])
    expect(await known.startedAt(id)).toBeInstanceOf(Date)
  })

  it('says which containers are gone, whoever removed them', () => {
    known.followed()
    known.heard('die', 'a')
    known.changed('stop', 'a')
    expect(onGone).not.toHaveBeenCalled()
    known.heard('destroy', 'a')
    known.heard('remove', 'b')
    known.changed('remove', 'c')
    expect(onGone.mock.calls).toEqual([['a'], ['b'], ['c']])
  })
})
