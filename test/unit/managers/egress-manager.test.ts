/** What a profile with `egress` answers where the operator has not made what it goes out by. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ownedBy } from '../../../src/labels.ts'
import { type MemoryService, startMemoryService } from '../../fixtures/memory-service.ts'

const IMAGE = 'container-orchestrator/toolbox:1'
const PROFILES = `
profiles:
  tool-out: { extends: strict, networks: [egress], egress: { hosts: [example.org] } }
  relic-out: { extends: service, networks: [egress], egress: { hosts: [example.org] } }
  worker-out: { extends: workspace, networks: [egress], egress: { hosts: [example.org] } }
`

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'co-egress-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function startWith(settings: string): Promise<MemoryService> {
  const path = join(folder, 'config.yaml')
  await writeFile(path, settings)
  return startMemoryService({ environment: { CO_CONFIG: path } })
}

const tool = { tool_name: 't', session_id: 's', image: IMAGE, command: ['true'] }
const relic = { relic_name: 'r', session_id: 's', image: IMAGE, command: ['sleep', '60'], health_check_endpoint: null }
const worker = { worker_id: 'w', session_id: 's', image: IMAGE, network: 'egress' }

async function problemsOf({ call }: MemoryService) {
  const run = await call('POST', '/containers/tool/execute', {
    ...tool,
    profile: 'tool-out',
    network_mode: 'egress',
  })
  return {
    run: [run.status, run.body.failure],
    starts: [
      await call('POST', '/containers/relic/start', { ...relic, profile: 'relic-out' }),
      await call('POST', '/containers/worker/start', { ...worker, profile: 'worker-out' }),
    ].map(({ status, body: { code, detail, hint } }) => ({ status, code, detail, hint })),
  }
}

const containersOf = ({ engine, store }: MemoryService) => engine.containers.list(ownedBy(store.instance))

describe('a profile with egress', () => {
  it("is a 422 that names the image and the command that makes it, where the proxy's image is missing", async () => {
    await using service = await startWith(PROFILES)
    const { run, starts } = await problemsOf(service)
    const hint = 'The operator makes it with `npm run egress-image`.'
    const words = expect.stringContaining('container-orchestrator/egress:1')
    expect(run).toEqual([200, { code: 'start_failed', message: words, hint }])
    expect(starts).toEqual([1, 2].map(() => ({ status: 422, code: 'image_not_found', detail: words, hint })))
    expect(await containersOf(service)).toEqual([])
  })

  it('is a 502 that names the network, where egress_network is none of the engine', async () => {
    await using service = await startWith(`egress_network: outside\n${PROFILES}`)
    const { run, starts } = await problemsOf(service)
    const words = expect.stringContaining('"outside"')
    const hint = expect.stringContaining('makes that network')
    expect(run).toEqual([200, { code: 'start_failed', message: words, hint }])
    expect(starts).toEqual([1, 2].map(() => ({ status: 502, code: 'engine_error', detail: words, hint })))
    expect(await containersOf(service)).toEqual([])
  })
})
