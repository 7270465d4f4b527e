import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sh, toolRequest } from '../fixtures/client.ts'
import { HTTPD } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'
import { WorkerClient } from '../fixtures/workers.ts'

let service: TestService
let client: WorkerClient

beforeAll(async () => {
  service = await startService()
  client = new WorkerClient(service.url)
})
afterAll(() => service.destroy())

const renew = (session_id: string, body: object) => client.send('PUT', `/sessions/${session_id}`, body)
const exists = async (session_id: string) => (await client.get(`/sessions/${session_id}`)).status === 200
/** A look at the sessions as it will be so many seconds from now. */
const look = (seconds: number) => service.services.reaper.reap(seconds * 1000)

describe('PUT /sessions/{id}', () => {
  it('sets how long a session lasts, makes it where it is new, and is told with it', async () => {
    const session_id = newSession()
    const answer = await renew(session_id, { ttl_seconds: 60, idle_timeout_seconds: 30 })
    expect(answer.status).toBe(200)
    expect(answer.body).toMatchObject({ session_id, ttl_seconds: 60, idle_timeout_seconds: 30, tools: { total: 0 } })
    expect(Date.parse(answer.body.expires_at) - Date.now()).toBeGreaterThan(58_000)
    expect((await client.get(`/sessions/${session_id}`)).body).toMatchObject({ ttl_seconds: 60, workers: [] })
    for (const bad of [{ ttl_seconds: 0 }, { ttl_seconds: '60' }, { idle: 5 }])
      expect((await renew(session_id, bad)).status).toBe(400)
    await client.post('/containers/cleanup/session', { session_id })
  })

  it('ends a session with all it has when its time is over, used or not, and spares the others', async () => {
    const [ending, lasting] = [newSession(), newSession()]
    for (const session_id of [ending, lasting])
      await client.post('/containers/relic/start', { relic_name: 'web', session_id, image: HTTPD })
    await renew(ending, { ttl_seconds: 60 })
    await look(50)
    expect(await exists(ending)).toBe(true)
    // Renewed, it lasts as long again.
    await renew(ending, { ttl_seconds: 120 })
    await look(70)
    expect(await exists(ending)).toBe(true)
    await look(121)
    expect([await exists(ending), await exists(lasting)]).toEqual([false, true])
    expect(await service.services.docker.list({ session: ending })).toEqual([])
    expect(await service.services.docker.list({ session: lasting })).toHaveLength(1)
    await client.post('/containers/cleanup/session', { session_id: lasting, force: true })
  })

  it('ends one that nobody uses; what runs in it and who is connected are use', async () => {
    const session_id = newSession()
    await renew(session_id, { idle_timeout_seconds: 10 })
    const run = await client.run(toolRequest({ session_id, command: sh('sleep 30'), wait: false }))
    await look(20)
    expect(await exists(session_id)).toBe(true)
    await client.post(`/containers/tool/${run.execution_id}/cancel`)

    await client.startWorker(`${session_id}-w`, { session_id })
    const exec = await client.exec(`${session_id}-w`, 'sleep 30', { wait: false })
    await look(20)
    expect(await exists(session_id)).toBe(true)
    await client.delete(`/containers/worker/${session_id}-w/exec/${exec.exec_id}`)

    await look(9)
    expect(await exists(session_id)).toBe(true)
    await look(11)
    expect(await exists(session_id)).toBe(false)
    expect(await service.services.docker.list({ session: session_id })).toEqual([])
    expect((await client.get(`/containers/tool/${run.execution_id}`)).body.status).toBe('cancelled')
  })
})
