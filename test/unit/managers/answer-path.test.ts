/** What a caller waits for: the calls to the engine, and the disk, from a request to its answer. */
import { type FileHandle, open } from 'node:fs/promises'
import { expect, it, onTestFinished, vi } from 'vitest'
import type { Engine } from '../../../src/engine/engine.ts'
import { startMemoryService } from '../../fixtures/memory-service.ts'

const IMAGE = 'container-orchestrator/toolbox:1'

/** Notes the calls of the containers, images, networks and volumes from now on, in their order. */
function noted(engine: Engine): string[] {
  const calls: string[] = []
  for (const kind of ['containers', 'images', 'networks', 'volumes'] as const) {
    const part = engine[kind] as unknown as Record<string, (...given: unknown[]) => unknown>
    for (const method of Object.getOwnPropertyNames(Object.getPrototypeOf(part))) {
      const real = part[method]
      if (method === 'constructor' || real === undefined) continue
      vi.spyOn(part, method).mockImplementation((...given) => {
        calls.push(`${kind}.${method}`)
        return real.apply(part, given)
      })
    }
  }
  return calls
}

it('of a cold run whose image is known: what makes, starts and follows it, and the look at what it left', async () => {
  await using service = await startMemoryService()
  const run = { tool_name: 'tool', session_id: 's', image: IMAGE, command: ['true'] }
  const first = await service.call('POST', '/containers/tool/execute', run)
  expect(first.body, JSON.stringify(first.body)).toMatchObject({ status: 'completed', warm: false })
  await service.services.docker.settled()

  const calls = noted(service.engine)
  const { body } = await service.call('POST', '/containers/tool/execute', run)
  expect(body).toMatchObject({ status: 'completed', warm: false })
  // Its removal may have begun, which nobody waits for.
  const removed = calls.indexOf('containers.remove')
  expect(removed === -1 ? calls : calls.slice(0, removed)).toEqual([
    'containers.create',
    'containers.attach',
    'containers.statPath',
    'containers.start',
    'containers.wait',
    'containers.inspect',
    'containers.statPath',
  ])
})

it('of a run: the disk has it before its container starts, and has its end before the answer', async () => {
  await using service = await startMemoryService()
  const steps: string[] = []
  onTestFinished(() => void vi.restoreAllMocks())
  const { containers } = service.engine
  const start = containers.start.bind(containers)
  await using file = await open('/dev/null')
  const files = Object.getPrototypeOf(file) as FileHandle
  const { datasync } = files
  vi.spyOn(files, 'datasync').mockImplementation(function (this: FileHandle) {
    steps.push('sync')
    return datasync.call(this)
  })
  vi.spyOn(containers, 'start').mockImplementation((id) => {
    steps.push('start')
    return start(id)
  })
  const run = { tool_name: 'tool', session_id: 's', image: IMAGE, command: ['true'] }
  const first = await service.call('POST', '/containers/tool/execute', run)
  expect(first.body, JSON.stringify(first.body)).toMatchObject({ status: 'completed', warm: false })
  // In the first, the service's own look at what containers see started one, too.
  steps.length = 0
  await service.call('POST', '/containers/tool/execute', run)
  expect(steps).toEqual(['sync', 'start', 'sync'])
})

it('of a relic: its image and its network are asked for side by side, and its name of nobody', async () => {
  await using service = await startMemoryService()
  const { containers, images, networks } = service.engine
  const listed = vi.spyOn(containers, 'list')
  const [inspectImage, createNetwork] = [images.inspect.bind(images), networks.create.bind(networks)]
  const image = Promise.withResolvers<void>()
  const network = Promise.withResolvers<void>()
  // Neither is answered before the other was asked for.
  vi.spyOn(images, 'inspect').mockImplementation(async (reference) => {
    image.resolve()
    await network.promise
    return inspectImage(reference)
  })
  vi.spyOn(networks, 'create').mockImplementation(async (spec) => {
    network.resolve()
    await image.promise
    return createNetwork(spec)
  })
  const { status, body } = await service.call('POST', '/containers/relic/start', {
    relic_name: 'store',
    session_id: 's',
    image: IMAGE,
    command: ['sleep', '60'],
    health_check_endpoint: null,
  })
  expect(status, JSON.stringify(body)).toBe(201)
  expect(listed).not.toHaveBeenCalled()
})
