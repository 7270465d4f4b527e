import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { loadConfig } from '../../src/config.ts'
import { ExecuteTool } from '../../src/domain/tool.ts'
import { StartWorker } from '../../src/domain/worker-spec.ts'
import { createContainerBody } from '../../src/engine/docker/create-options.ts'
import { MemoryEngine } from '../../src/engine/memory/memory-engine.ts'
import { HostPaths } from '../../src/managers/host-paths.ts'
import { buildServices } from '../../src/services.ts'
import { Store } from '../../src/store/store.ts'
import { TOOLBOX } from '../fixtures/images.ts'

let dataDir: string
let store: Store

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'co-gpu-'))
  store = await Store.open(dataDir)
})
afterAll(async () => {
  await store.close()
  await rm(dataDir, { recursive: true, force: true })
})

describe('a GPU request', () => {
  it('reaches an engine that has devices as exactly one device request', async () => {
    const engine = new MemoryEngine({ gpu: true })
    const create = vi.spyOn(engine.containers, 'create')
    const log = pino({ level: 'silent' })
    const services = buildServices({
      config: loadConfig({ CO_DATA_DIR: dataDir }),
      engine,
      engineInfo: await engine.connect(),
      store,
      hostPaths: new HostPaths(),
      log,
    })
    const gpu = { count: 2, capabilities: ['gpu', 'utility'] }
    const request = ExecuteTool.parse({
      tool_name: 't',
      session_id: 's',
      image: TOOLBOX,
      command: ['echo', 'on a gpu'],
      gpu,
    })
    const run = await services.tools.ended((await services.tools.execute(request)).execution_id)
    expect(run).toMatchObject({ status: 'completed', stdout: 'on a gpu\n' })
    const [spec] = create.mock.calls.find(([{ labels }]) => labels['container-orchestrator.kind'] === 'tool') ?? []
    if (spec === undefined) throw new Error('nothing was created')
    expect(createContainerBody(spec)).toMatchObject({
      HostConfig: { DeviceRequests: [{ Driver: 'nvidia', Count: 2, Capabilities: [['gpu', 'utility']] }] },
    })
    await services.drain(0)
  })

  it('of a worker reaches it so, too, and a worker without one has none', async () => {
    const engine = new MemoryEngine({ gpu: true })
    const create = vi.spyOn(engine.containers, 'create')
    const services = buildServices({
      config: loadConfig({ CO_DATA_DIR: dataDir }),
      engine,
      engineInfo: await engine.connect(),
      store,
      hostPaths: new HostPaths(),
      log: pino({ level: 'silent' }),
    })
    const worker = { image: TOOLBOX, command: ['sleep', '600'] }
    const gpu = { device_ids: ['0', 'GPU-7'], capabilities: ['gpu', 'compute'] }
    await services.workers.start(StartWorker.parse({ ...worker, worker_id: 'with', gpu }))
    await services.workers.start(StartWorker.parse({ ...worker, worker_id: 'without' }))
    const bodies = create.mock.calls.flatMap(([spec]) =>
      spec.labels['container-orchestrator.kind'] === 'worker' ? [createContainerBody(spec)] : [],
    )
    expect(bodies).toHaveLength(2)
    expect(bodies[0]).toMatchObject({
      HostConfig: {
        DeviceRequests: [{ Driver: 'nvidia', DeviceIDs: ['0', 'GPU-7'], Capabilities: [['gpu', 'compute']] }],
      },
    })
    expect(bodies[1]).not.toHaveProperty('HostConfig.DeviceRequests')
    await services.drain(0)
  })
})
