/** What a caller waits for: the calls to the engine from a request to its answer. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import type { Engine } from '../../../src/engine/engine.ts'
import { startMemoryService } from '../../fixtures/memory-service.ts'

interface Call {
  name: string
  end?: number
}

/** Notes each call of the engine from now on, in the order of their beginnings; each takes so many milliseconds longer. */
function noted(engine: Engine, milliseconds = 0): Call[] {
  const calls: Call[] = []
  for (const kind of ['containers', 'images', 'networks', 'volumes'] as const) {
    const part = engine[kind] as unknown as Record<string, (...given: unknown[]) => unknown>
    for (const method of methodsOf(part)) {
      const real = part[method]?.bind(part)
      part[method] = (...given) => {
        const call: Call = { name: `${kind}.${method}` }
        calls.push(call)
        const answer = real?.(...given)
        if (!(answer instanceof Promise)) return answer
        return answer
          .finally(() => sleep(milliseconds))
          .finally(() => {
            call.end = calls.length
          })
      }
    }
  }
  return calls
}

function methodsOf(part: object): string[] {
  const names = Object.getOwnPropertyNames(Object.getPrototypeOf(part))
  return names.filter((name) => name !== 'constructor')
}

it('of a cold run whose image is known: what makes, starts and follows it, and the look at what it left', async () => {
  await using service = await startMemoryService()
  const run = { tool_name: 'tool', session_id: 's', image: 'container-orchestrator/toolbox:1', command: ['true'] }
  const first = await service.call('POST', '/containers/tool/execute', run)
  expect(first.body, JSON.stringify(first.body)).toMatchObject({ status: 'completed', warm: false })
  await service.services.docker.settled()

  const calls = noted(service.engine)
  const { body } = await service.call('POST', '/containers/tool/execute', run)
  const names = calls.map(({ name }) => name)
  expect(body).toMatchObject({ status: 'completed', warm: false })
  // Its removal may have begun, which nobody waits for.
  const removed = names.indexOf('containers.remove')
  expect(removed === -1 ? names : names.slice(0, removed)).toEqual([
    'containers.create',
    'containers.attach',
    'containers.statPath',
    'containers.start',
    'containers.wait',
    'containers.inspect',
    'containers.statPath',
  ])
})

it('of a relic: its image and its network are asked for side by side', async () => {
  await using service = await startMemoryService()
  const calls = noted(service.engine, 20)
  const { status, body } = await service.call('POST', '/containers/relic/start', {
    relic_name: 'store',
    session_id: 's',
    image: 'container-orchestrator/toolbox:1',
    command: ['sleep', '60'],
    health_check_endpoint: null,
  })
  expect(status, JSON.stringify(body)).toBe(201)
  const names = calls.map(({ name }) => name)
  const image = names.indexOf('images.inspect')
  const network = names.findIndex((name) => name.startsWith('networks.'))
  expect(image).toBeGreaterThanOrEqual(0)
  expect(network).toBeGreaterThanOrEqual(0)
  // Each began before the other had ended.
  expect(calls[image]?.end).toBeGreaterThan(network)
  expect(calls[network]?.end).toBeGreaterThan(image)
  expect(Math.max(image, network)).toBeLessThan(names.indexOf('containers.create'))
})
