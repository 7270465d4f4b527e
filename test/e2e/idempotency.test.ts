import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sh, toolRequest } from '../fixtures/client.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'
import { WorkerClient } from '../fixtures/workers.ts'

let service: TestService
let client: WorkerClient
let dataDir: string

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'co-idempotency-'))
  service = await startService({ dataDir })
  client = new WorkerClient(service.url)
})
afterAll(async () => {
  await service.destroy()
  await rm(dataDir, { recursive: true, force: true })
})

const EXECUTE = '/containers/tool/execute'
const keyed = (path: string, body: unknown, key: string) => client.post(path, body, { 'idempotency-key': key })

describe('Idempotency-Key', () => {
  it('gives the same run to whoever repeats a call, while it runs and when it has ended', async () => {
    const session_id = newSession()
    const key = randomUUID()
    const body = toolRequest({ session_id, command: sh('echo once; sleep 1') })
    const answers = await Promise.all([1, 2, 3].map(() => keyed(EXECUTE, body, key)))
    answers.push(await keyed(EXECUTE, body, key))
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    expect(new Set(answers.map(({ body: run }) => run.execution_id)).size).toBe(1)
    expect(answers.map(({ body: run }) => run.stdout)).toEqual(Array(4).fill('once\n'))
    expect((await client.get(`/containers/tool?session_id=${session_id}`)).body.items).toHaveLength(1)
  })

  it('refuses the key of another body or another call', async () => {
    const session_id = newSession()
    const key = randomUUID()
    const body = toolRequest({ session_id, command: ['true'] })
    await keyed(EXECUTE, body, key)
    const other = await keyed(EXECUTE, { ...body, command: ['false'] }, key)
    expect([other.status, other.body.code]).toEqual([422, 'idempotency_key_reused'])
    const relic = await keyed('/containers/relic/start', { relic_name: 'r', session_id, image: HTTPD }, key)
    expect([relic.status, relic.body.code]).toEqual([422, 'idempotency_key_reused'])
    const malformed = await keyed(EXECUTE, body, 'two words')
    expect([malformed.status, malformed.body.errors[0].path]).toEqual([400, 'Idempotency-Key'])
  })

  it('can be used again after a call that made nothing', async () => {
    const key = randomUUID()
    const session_id = newSession()
    const denied = await keyed(EXECUTE, toolRequest({ session_id, profile: 'none-such', command: ['true'] }), key)
    expect(denied.status).toBe(403)
    const run = await keyed(EXECUTE, toolRequest({ session_id, command: ['true'] }), key)
    expect([run.status, run.body.status]).toEqual([200, 'completed'])
  })

  it('makes one relic, and tells a failed start again as it was told', async () => {
    const session_id = newSession()
    const [key, failing] = [randomUUID(), randomUUID()]
    const body = { relic_name: 'web', session_id, image: HTTPD }
    const answers = await Promise.all([1, 2].map(() => keyed('/containers/relic/start', body, key)))
    answers.push(await keyed('/containers/relic/start', body, key))
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201])
    expect(new Set(answers.map(({ body: relic }) => relic.relic_id)).size).toBe(1)
    const never = { relic_name: 'never', session_id, image: HTTPD, port: 9, health_check_timeout_seconds: 0.5 }
    const first = await keyed('/containers/relic/start', never, failing)
    const again = await keyed('/containers/relic/start', never, failing)
    expect([first.status, again.status]).toEqual([504, 504])
    expect(again.body).toMatchObject({ code: 'health_check_timeout', instance: first.body.instance })
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('makes one worker, one command and one snapshot', async () => {
    const key = randomUUID()
    const worker = { worker_id: 'keyed', image: TOOLBOX, workspace: { volume: 'v' } }
    const started = await Promise.all([1, 2].map(() => keyed('/containers/worker/start', worker, key)))
    expect(started.map(({ status }) => status)).toEqual([201, 201])
    expect((await keyed('/containers/worker/start', worker, key)).body.container_id).toBe(started[0]?.body.container_id)
    const exec = { command: 'echo x >> /workspace/count; sleep 0.5; wc -l < /workspace/count' }
    const path = '/containers/worker/keyed/exec'
    const ran = await Promise.all([1, 2].map(() => keyed(path, exec, `${key}-exec`)))
    ran.push(await keyed(path, exec, `${key}-exec`))
    expect(ran.map(({ body }) => body.stdout)).toEqual(['1\n', '1\n', '1\n'])
    const snapshots = [1, 2].map(() => keyed('/containers/worker/keyed/snapshot', undefined, `${key}-snapshot`))
    const images = (await Promise.all(snapshots)).map(({ body }) => body.image_id)
    expect(images[0]).toMatch(/^sha256:/)
    expect(images[1]).toBe(images[0])
    await service.engine.images.remove(images[0])
    await client.delete('/containers/worker/keyed')
  })

  it('holds over a restart of the service', async () => {
    const key = randomUUID()
    const session_id = newSession()
    const body = toolRequest({ session_id, command: sh('echo before') })
    const before = await keyed(EXECUTE, body, key)
    await service.stop()
    service = await startService({ dataDir })
    client = new WorkerClient(service.url)
    expect((await keyed(EXECUTE, body, key)).body).toEqual(before.body)
  })
})
