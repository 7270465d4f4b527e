/** SECURITY.md, row 15: a name leads to one container of its session, however often it is asked for. SECURITY_LOOKUPS sets how often. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { askEngine } from '../../scripts/engine-client.ts'
import { Client } from '../fixtures/client.ts'
import { leastContainer } from '../fixtures/container-spec.ts'
import { DEBIAN, HTTPD } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

const LOOKUPS = Number(process.env['SECURITY_LOOKUPS'] ?? 100)

/** Prints the addresses that a name ever had, in a list of all that was answered to it. */
const LOOK_UP = `
import socket, sys
name, times = sys.argv[1], int(sys.argv[2])
print(sorted({address for _ in range(times) for address in socket.gethostbyname_ex(name)[2]}))`

let service: TestService
let client: Client
beforeAll(async () => {
  service = await startService()
  client = new Client(service.url)
})
afterAll(() => service.destroy())

const startRelic = (session_id: string, relic_name: string) =>
  client.post('/containers/relic/start', { relic_name, session_id, image: HTTPD })

const startWorker = (session_id: string, worker_id: string, network = 'session') =>
  client.post('/containers/worker/start', { worker_id, session_id, image: DEBIAN, network })

async function addressesOf(session_id: string, name: string, times = LOOKUPS): Promise<string[]> {
  const command = ['python3', '-c', LOOK_UP, name, String(times)]
  const run = await client.run({ session_id, image: DEBIAN, network_mode: 'session', command })
  expect(run).toMatchObject({ status: 'completed', stderr: '' })
  return JSON.parse(run.stdout.replaceAll("'", '"'))
}

async function endpointOf(containerId: string, networkId: string) {
  const state = (await service.engine.containers.inspect(containerId))?.networks
  return state?.find((network) => network.networkId === networkId)
}

describe('a name in a session', () => {
  it(`is answered with the one address over ${LOOKUPS} lookups, whoever else asks for the name`, async () => {
    const session = newSession('victim')
    const { body: victim } = await startRelic(session, 'web')
    const networkId = victim.network.id
    const address = (await endpointOf(victim.container_id, networkId))?.address
    const attempts = await Promise.all([
      startRelic(session, 'web'),
      startRelic(session, 'WEB'),
      startWorker(session, 'web'),
      startWorker(session, 'Web'),
      startWorker(session, victim.container_name),
      startWorker(session, victim.container_id.slice(0, 12)),
      startWorker(session, `web.${victim.network.name}`),
    ])
    expect(attempts.map(({ status, body }) => [status, body.code, body.hint !== undefined])).toEqual(
      attempts.map(() => [409, 'conflict', true]),
    )
    // One of that name that is on another network is in nobody's way.
    expect((await startWorker(session, 'wEb', 'internal')).status).toBe(201)
    expect(await addressesOf(session, 'web')).toEqual([address])
    expect(await addressesOf(session, 'WEB', 3)).toEqual([address])
    expect(await addressesOf(session, victim.container_name, 3)).toEqual([address])

    // What is refused is what an engine would do: beside another container of that name, either answers.
    const twin = await service.engine.containers.create(
      leastContainer({
        name: `twin_${randomUUID().slice(0, 8)}`,
        imageId: victim.image_id ?? (await service.engine.images.inspect(HTTPD))?.id,
        labels: (await service.engine.containers.inspect(victim.container_id))?.labels ?? {},
        command: ['sleep', '300'],
        network: { mode: 'network', networkId, aliases: ['Web'] },
      }),
    )
    await service.engine.containers.start(twin)
    const both = [address, (await endpointOf(twin, networkId))?.address].sort()
    expect(await addressesOf(session, 'web')).toEqual(both)
    await service.engine.containers.remove(twin)
  })

  it('is taken by whoever runs, and refused to who had it before and would be started again', async () => {
    const session = newSession('turns')
    const { body: relic } = await startRelic(session, 'web')
    await client.post(`/containers/relic/${relic.relic_id}/stop`, { timeout_seconds: 0 })
    expect((await startWorker(session, 'Web')).status).toBe(201)
    const refused = await client.post(`/containers/relic/${relic.relic_id}/restart`)
    expect(refused).toMatchObject({ status: 409, body: { instance: '/containers/worker/Web' } })

    await client.post('/containers/worker/Web/stop', { timeout_seconds: 0 })
    expect((await client.post(`/containers/relic/${relic.relic_id}/restart`)).status).toBe(200)
    const again = await Promise.all([
      client.post('/containers/worker/Web/restart'),
      client.post('/containers/worker/Web/refresh', {}),
      client.post('/containers/worker/Web/ensure', { session_id: session, image: DEBIAN, network: 'session' }),
    ])
    expect(again.map(({ status }) => status)).toEqual([409, 409, 409])
    const { body } = await client.get(`/containers/relic/${relic.relic_id}`)
    expect(await addressesOf(session, 'web')).toEqual([(await endpointOf(body.container_id, body.network.id))?.address])
  })

  it('goes to one of two that are started again in the same moment', async () => {
    const session = newSession('both')
    const ids: string[] = []
    for (let round = 0; round < 2; round++) {
      const { body } = await startRelic(session, 'web')
      await client.post(`/containers/relic/${body.relic_id}/stop`, { timeout_seconds: 0 })
      ids.push(body.relic_id)
    }
    const answers = await Promise.all(ids.map((id) => client.post(`/containers/relic/${id}/restart`)))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409])
  })

  it('is an alias only of relics and workers, and only the one that was asked for', async () => {
    const session = newSession('alias')
    const { body: relic } = await startRelic(session, 'store')
    const { body: worker } = await startWorker(session, 'hand')
    const { body: apart } = await startWorker(session, `apart-${session}`, 'internal')
    const tool = await client.run({
      ...{ tool_name: 'store', session_id: session, image: DEBIAN, network_mode: 'session' },
      ...{ command: ['true'], cleanup: false },
    })
    expect(tool.status).toBe('completed')
    const aliases = async (id: string) => {
      const { NetworkSettings } = await askEngine<{
        NetworkSettings: { Networks: Record<string, { Aliases: string[] | null }> }
      }>('GET', `/containers/${id}/json`)
      return Object.values(NetworkSettings.Networks).map(({ Aliases }) =>
        // The engine itself adds the short id.
        (Aliases ?? []).filter((alias) => alias !== id.slice(0, 12)),
      )
    }
    expect(await aliases(relic.container_id)).toEqual([['store']])
    expect(await aliases(worker.container_id)).toEqual([['hand']])
    expect(await aliases(apart.container_id)).toEqual([[]])
    expect(await aliases(tool.container_id)).toEqual([[]])
  })
})
