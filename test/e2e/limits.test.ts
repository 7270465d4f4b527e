import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sh, toolRequest } from '../fixtures/client.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'
import { WorkerClient } from '../fixtures/workers.ts'

let service: TestService
let client: WorkerClient

beforeAll(async () => {
  service = await startService({ environment: { CO_SESSION_CONTAINERS: '4', CO_SESSION_MEMORY: '2g' } })
  client = new WorkerClient(service.url)
})
afterAll(() => service.destroy())

const execute = (session_id: string, request: object) =>
  client.post('/containers/tool/execute', toolRequest({ session_id, ...request }))
const limit = (session_id: string, quotas: object) => client.send('PUT', `/sessions/${session_id}`, { quotas })
const containersIn = async (session: string) => (await service.services.docker.list({ session })).length
const cleanUp = (session_id: string) => client.post('/containers/cleanup/session', { session_id, force: true })

describe('quotas of a session', () => {
  it('bound its runs, and no other session’s', async () => {
    const [session_id, other] = [newSession(), newSession()]
    expect((await limit(session_id, { runs: 1 })).body).toMatchObject({
      quotas: { runs: 1, containers: 4, memory_mb: 2048 },
      used: { runs: 0, containers: 0, memory_mb: 0 },
    })
    const first = await execute(session_id, { command: sh('sleep 30'), wait: false })
    const refused = await execute(session_id, { command: ['true'] })
    expect([refused.status, refused.body.code]).toEqual([429, 'quota_exceeded'])
    expect(refused.body.hint).toContain('PUT /sessions')
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await execute(other, { command: ['true'] })).body.status).toBe('completed')
    expect((await client.get(`/sessions/${session_id}`)).body.used).toEqual({ runs: 1, containers: 1, memory_mb: 512 })
    await client.post(`/containers/tool/${first.body.execution_id}/cancel`)
    expect((await execute(session_id, { command: ['true'] })).body.status).toBe('completed')
    await cleanUp(session_id)
    await cleanUp(other)
  })

  it('let through as many calls at once as there is room for', async () => {
    const session_id = newSession()
    await limit(session_id, { runs: 2 })
    const answers = await Promise.all(Array.from({ length: 6 }, () => execute(session_id, { command: sh('sleep 1') })))
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 200, 429, 429, 429, 429])
    await cleanUp(session_id)
  })

  it('bound memory and containers of tools, relics and workers together, before anything is made', async () => {
    const session_id = newSession()
    const relic = { session_id, image: HTTPD, resource_limits: { memory_mb: 1024 } }
    const web = await client.post('/containers/relic/start', { relic_name: 'web', ...relic })
    expect(web.status).toBe(201)
    await client.startWorker(`${session_id}-w`, { session_id, memory_limit: '512m', image: TOOLBOX })
    const before = await containersIn(session_id)
    for (const refused of [
      await client.post('/containers/relic/start', { relic_name: 'other', ...relic }),
      await client.post('/containers/worker/start', {
        worker_id: `${session_id}-x`,
        session_id,
        image: TOOLBOX,
        memory_limit: '513m',
      }),
      await execute(session_id, { command: ['true'], resource_limits: { memory_mb: 600 } }),
    ])
      expect([refused.status, refused.body.code]).toEqual([429, 'quota_exceeded'])
    expect(await containersIn(session_id)).toBe(before)
    // One that is stopped has its container, and no memory; started again it needs the room.
    await client.post(`/containers/relic/${web.body.relic_id}/stop`, { timeout_seconds: 0 })
    expect((await client.get(`/sessions/${session_id}`)).body.used).toEqual({ runs: 0, containers: 2, memory_mb: 512 })
    const tool = await execute(session_id, {
      command: sh('sleep 30'),
      resource_limits: { memory_mb: 1000 },
      wait: false,
    })
    expect((await client.post(`/containers/relic/${web.body.relic_id}/restart`)).status).toBe(429)
    await client.post(`/containers/tool/${tool.body.execution_id}/cancel`)
    expect((await client.post(`/containers/relic/${web.body.relic_id}/restart`)).status).toBe(200)
    await limit(session_id, { containers: 2 })
    expect((await execute(session_id, { command: ['true'], resource_limits: { memory_mb: 16 } })).status).toBe(429)
    await cleanUp(session_id)
    expect((await execute(session_id, { command: ['true'] })).status).toBe(200)
    await cleanUp(session_id)
  })

  it('refuses bounds that are none', async () => {
    for (const quotas of [{ runs: 0 }, { memory_mb: '1g' }, { cpus: 1 }])
      expect((await limit(newSession(), quotas)).status).toBe(400)
  })
})

describe('a disk that is nearly full', () => {
  it('takes no new work and says so, and goes on when there is room', async () => {
    const session_id = newSession()
    const running = await execute(session_id, { command: sh('sleep 2; echo done'), wait: false })
    await using full = await startService({ environment: { CO_DISK_RESERVE_MB: '100000000' } })
    const there = new WorkerClient(full.url)
    for (const refused of [
      await there.post('/containers/tool/execute', toolRequest({ command: ['true'] })),
      await there.post('/containers/relic/start', { relic_name: 'web', session_id, image: HTTPD }),
      await there.post('/containers/worker/start', { worker_id: 'w', image: TOOLBOX }),
    ]) {
      expect([refused.status, refused.body.code]).toEqual([503, 'disk_low'])
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    }
    expect((await there.get('/readyz')).status).toBe(503)
    expect((await there.get('/livez')).status).toBe(200)
    expect((await there.get('/health')).body).toMatchObject({ status: 'degraded', disk: { low: true } })
    expect(await full.services.docker.list()).toEqual([])
    const { execution_id } = running.body
    let run = running.body
    while (run.completed_at === null) run = (await client.get(`/containers/tool/${execution_id}`)).body
    expect(run).toMatchObject({ status: 'completed', stdout: 'done\n' })
    await cleanUp(session_id)
  })
})
