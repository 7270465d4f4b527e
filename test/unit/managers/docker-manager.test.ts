import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import { MemoryEngine } from '../../../src/engine/memory/memory-engine.ts'
import { DockerManager } from '../../../src/managers/docker-manager.ts'
import type { ContainerPlan } from '../../../src/policy/container-policy.ts'
import { leastContainer } from '../../fixtures/container-spec.ts'
import { TOOLBOX } from '../../fixtures/images.ts'

const instance = randomUUID()
const log = pino({ level: 'silent' })

let engine: MemoryEngine
let docker: DockerManager

beforeEach(() => {
  engine = new MemoryEngine()
  docker = new DockerManager({ engine, instance, log })
})

async function make(
  kind: 'tool' | 'worker',
  id: string,
  source: string,
  { command = ['sleep', '600'], readOnly = false }: { command?: string[]; readOnly?: boolean } = {},
): Promise<string> {
  const imageId = (await engine.images.inspect(TOOLBOX))?.id ?? ''
  const spec = leastContainer({ name: randomUUID(), imageId, command })
  const plan: ContainerPlan = { ...spec, mounts: [{ type: 'bind', source, target: '/mnt', readOnly }] }
  const owner = { kind, id, name: id, session: 's', nonce: randomUUID() }
  return docker.create({ owner, containerName: spec.name, imageId, plan, network: { mode: 'none' } })
}

const conflict = { code: 'conflict' }

describe('what containers mount of the host', () => {
  it('is claimed before one is made, whoever asks for it', async () => {
    await make('worker', 'w1', '/srv/r')
    await expect(make('tool', 't1', '/srv/r/a')).rejects.toMatchObject(conflict)
    expect(await docker.list()).toHaveLength(1)
    await make('tool', 't2', '/srv/r', { readOnly: true })
  })

  it('is held by a container until it is removed, although its owner is done with it', async () => {
    const id = await make('worker', 'w1', '/srv/r')
    docker.hostMounts.release('w1')
    await expect(make('tool', 't1', '/srv/r/a')).rejects.toMatchObject(conflict)
    await docker.remove(id)
    await make('tool', 't1', '/srv/r/a')
  })

  it('is free where somebody else removed the container, as soon as the containers are listed', async () => {
    const id = await make('worker', 'w1', '/srv/r')
    docker.hostMounts.release('w1')
    await engine.containers.remove(id)
    await docker.list({ session: 'other' })
    await expect(make('tool', 't1', '/srv/r/a')).rejects.toMatchObject(conflict)
    await docker.list()
    await make('tool', 't1', '/srv/r/a')
  })

  it('is known again after a restart, of all that may run again', async () => {
    await engine.containers.start(await make('worker', 'w1', '/srv/writes'))
    await make('worker', 'w2', '/srv/stopped')
    await make('worker', 'w3', '/srv/reads', { readOnly: true })
    const ended = await make('tool', 't1', '/srv/ended', { command: ['true'] })
    await engine.containers.start(ended)
    await engine.containers.wait(ended)

    docker = new DockerManager({ engine, instance, log })
    await docker.takeStock()
    await expect(make('tool', 't2', '/srv/writes/a')).rejects.toMatchObject(conflict)
    await expect(make('tool', 't2', '/srv/stopped/a')).rejects.toMatchObject(conflict)
    await expect(make('tool', 't2', '/srv')).rejects.toMatchObject(conflict)
    await make('tool', 't3', '/srv/reads/a')
    await make('tool', 't4', '/srv/ended/a')
  })

  it('is not known of a container that cannot be read, which keeps nothing else back', async () => {
    const id = await make('worker', 'w1', '/srv/r')
    await make('worker', 'w2', '/srv/s')
    docker = new DockerManager({ engine, instance, log })
    const inspect = engine.containers.inspect.bind(engine.containers)
    engine.containers.inspect = (asked) =>
      asked === id ? Promise.reject(new Error('an answer of another form')) : inspect(asked)
    await docker.takeStock()
    await expect(make('tool', 't1', '/srv/s/a')).rejects.toMatchObject(conflict)
    await make('tool', 't1', '/srv/r/a')
  })
})
