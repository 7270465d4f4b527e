import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sh } from '../fixtures/client.ts'
import { HTTPD } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'
import { WorkerClient } from '../fixtures/workers.ts'

let service: TestService
let client: WorkerClient
let dataDir: string

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'co-events-'))
  service = await startService({ dataDir })
  client = new WorkerClient(service.url)
})
afterAll(async () => {
  await service.destroy()
  await rm(dataDir, { recursive: true, force: true })
})

describe('GET /events', () => {
  it('tells all that happens in a session, and to nobody else’s reader', async () => {
    const session_id = newSession()
    const following = client.events(`/events?session_id=${session_id}`, {
      enough: ({ event }) => event === 'session.ended',
    })
    await new Promise((resolve) => setTimeout(resolve, 300))
    const run = await client.run({ session_id, command: sh('exit 3') })
    await client.run({ session_id: newSession('other'), command: ['true'] })
    await client.post('/containers/relic/start', { relic_name: 'web', session_id, image: HTTPD })
    await client.startWorker(`${session_id}-w`, { session_id })
    await client.exec(`${session_id}-w`, 'true')
    await client.post('/containers/cleanup/session', { session_id, force: true })
    const events = await following
    expect(events.map(({ event }) => event)).toEqual([
      'session.created',
      'tool.queued',
      'tool.preparing',
      'tool.running',
      'tool.failed',
      'relic.preparing',
      'relic.starting',
      'relic.healthy',
      'worker.preparing',
      'worker.starting',
      'worker.running',
      'exec.running',
      'exec.completed',
      expect.stringMatching(/^(relic|worker)\.deleted$/),
      expect.stringMatching(/^(relic|worker)\.deleted$/),
      'session.ended',
    ])
    const ids = events.map(({ id }) => Number(id))
    expect(ids).toEqual([...new Set(ids)].toSorted((a, b) => a - b))
    expect(events.find(({ event }) => event === 'tool.failed')?.data).toMatchObject({
      session_id,
      execution_id: run.execution_id,
      exit_code: 3,
      failure: { code: 'nonzero_exit' },
      at: expect.stringMatching(/Z$/),
    })
    expect(events.at(-1)?.data).toMatchObject({ reason: 'cleanup' })
  })

  it('goes on behind Last-Event-ID, over a restart of the service', async () => {
    const session_id = newSession()
    await client.run({ session_id, command: ['true'] })
    const all = await client.events(`/events?session_id=${session_id}&after=0`, {
      enough: ({ event }) => event === 'tool.completed',
    })
    const middle = all[2]?.id ?? ''
    await service.stop()
    service = await startService({ dataDir })
    client = new WorkerClient(service.url)
    const run = client.run({ session_id, command: ['false'] })
    const rest = await client.events(`/events?session_id=${session_id}`, {
      headers: { 'last-event-id': middle },
      enough: ({ event }) => event === 'tool.failed',
    })
    await run
    expect(rest.slice(0, 2)).toEqual(all.slice(3, 5))
    expect(rest.map(({ event }) => event)).toEqual([
      ...all.slice(3).map(({ event }) => event),
      'tool.queued',
      'tool.preparing',
      'tool.running',
      'tool.failed',
    ])
  })
})
