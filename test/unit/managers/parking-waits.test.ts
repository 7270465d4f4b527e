/** What is made ahead of need waits for whom somebody waits for: relics and workers that start, as cold runs do. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it, vi } from 'vitest'
import { decodeLabels } from '../../../src/labels.ts'
import { startMemoryService } from '../../fixtures/memory-service.ts'

const IMAGE = 'container-orchestrator/toolbox:1'
const COMMAND = ['sleep', '60']
/** Longer than parking waits for a quiet moment at most. */
const LONGEST_QUIET_MS = 1_500

const RELIC = { relic_name: 'store', session_id: 's', image: IMAGE, command: COMMAND, health_check_endpoint: null }
const WORKER = { worker_id: 'worker', session_id: 's', image: IMAGE, command: COMMAND }

it.for([
  ['relic', '/containers/relic/start', RELIC],
  ['worker', '/containers/worker/start', WORKER],
] as const)('parks nothing while a %s starts, and goes on when it has', async ([kind, path, request]) => {
  await using service = await startMemoryService({ environment: { CO_POOL_MAX: '2' } })
  const { containers } = service.engine
  const [create, start] = [containers.create.bind(containers), containers.start.bind(containers)]
  const kinds = new Map<string, string | undefined>()
  vi.spyOn(containers, 'create').mockImplementation(async (spec) => {
    const id = await create(spec)
    kinds.set(id, decodeLabels(spec.labels)?.kind)
    return id
  })
  const asked = Promise.withResolvers<void>()
  const release = Promise.withResolvers<void>()
  vi.spyOn(containers, 'start').mockImplementation(async (id) => {
    if (kinds.get(id) === kind) {
      asked.resolve()
      await release.promise
    }
    return start(id)
  })

  const starting = service.call('POST', path, request)
  await asked.promise
  const run = { tool_name: 'tool', session_id: 's', image: IMAGE, command: ['true'] }
  const { body } = await service.call('POST', '/containers/tool/execute', run)
  expect(body).toMatchObject({ status: 'completed', warm: false })
  await sleep(LONGEST_QUIET_MS)
  expect([...kinds.values()]).not.toContain('pool')

  release.resolve()
  const answer = await starting
  expect(answer.status, JSON.stringify(answer.body)).toBe(201)
  await vi.waitFor(() => expect([...kinds.values()]).toContain('pool'), { timeout: 2 * LONGEST_QUIET_MS })
})
