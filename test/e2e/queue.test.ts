import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Client, sh, toolRequest } from '../fixtures/client.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

let dataDir: string
let service: TestService
let client: Client
const sessions: string[] = []

const start = async () => {
  service = await startService({ dataDir, environment: { CO_MAX_CONCURRENT_RUNS: '1', CO_QUEUE_LIMIT: '20' } })
  client = new Client(service.url)
}
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'co-queue-'))
  await start()
})
afterEach(async () => {
  for (const session_id of sessions.splice(0))
    await client.post('/containers/cleanup/session', { session_id, force: true })
})
afterAll(async () => {
  await service.destroy()
  await rm(dataDir, { recursive: true, force: true })
})

function session(): string {
  const id = newSession()
  sessions.push(id)
  return id
}

const submit = async (session_id: string, script: string, more: object = {}) =>
  (
    await client.post(
      '/containers/tool/execute',
      toolRequest({ session_id, command: sh(script), wait: false, ...more }),
    )
  ).body.execution_id as string
const run = async (id: string) => (await client.get(`/containers/tool/${id}`)).body
const ended = async (id: string) => {
  for (;;) {
    const { body } = await client.get(`/containers/tool/${id}`)
    if (body.completed_at !== null) return body
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

describe('runs that wait', () => {
  it('tell their place, take turns by session and then by priority, and can be followed from the start', async () => {
    const [one, other] = [session(), session()]
    const blocker = await submit(one, 'sleep 2')
    const low = await submit(one, 'echo low', { priority: 1 })
    const high = await submit(one, 'echo high', { priority: 9 })
    const foreign = await submit(other, 'echo foreign', { priority: 0 })
    const places = await Promise.all([high, foreign, low].map(async (id) => (await run(id)).queue_position))
    expect(places).toEqual([1, 2, 3])
    expect((await client.get(`/containers/tool?session_id=${other}`)).body.items[0].queue_position).toBe(2)
    const followed = await client.events(`/containers/tool/${low}/logs?follow=true`)
    expect(followed.map(({ event, data }) => (event === 'state' ? data.status : event))).toEqual([
      'queued',
      'preparing',
      'running',
      'stdout',
      'completed',
      'end',
    ])
    const starts = await Promise.all([blocker, high, foreign, low].map(async (id) => (await ended(id)).started_at))
    expect(starts).toEqual(starts.toSorted())
    expect((await run(low)).queue_position).toBeNull()
  })

  it('never start where they are cancelled, whoever waits for them', async () => {
    const session_id = session()
    const blocker = await submit(session_id, 'sleep 1')
    const waiting = client.post(
      '/containers/tool/execute',
      toolRequest({ session_id, command: ['true'], tool_name: 'waits' }),
    )
    let waits: { execution_id: string } | undefined
    while (waits === undefined) waits = (await client.get('/containers/tool?tool_name=waits')).body.items[0]
    const cancelled = await client.post(`/containers/tool/${waits.execution_id}/cancel`)
    expect(cancelled.body).toMatchObject({ status: 'cancelled', started_at: null, container_id: null, exit_code: null })
    expect((await waiting).body).toMatchObject({ execution_id: waits.execution_id, status: 'cancelled' })
    expect((await client.post(`/containers/tool/${waits.execution_id}/cancel`)).status).toBe(409)
    expect((await ended(blocker)).status).toBe('completed')
  })

  it('are bounded in number', async () => {
    const session_id = session()
    await submit(session_id, 'sleep 5')
    for (let count = 0; count < 20; count++) await submit(session_id, 'true')
    const refused = await client.post('/containers/tool/execute', toolRequest({ session_id, command: ['true'] }))
    expect([refused.status, refused.body.code]).toEqual([429, 'queue_full'])
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    const cleanup = await client.post('/containers/cleanup/session', { session_id, force: true })
    expect(cleanup.body).toMatchObject({ tools_cancelled: 21, errors: [] })
  })

  it('outlive the service: they run in their order when it is back, and nothing is told twice', async () => {
    const [one, other] = [session(), session()]
    const blocker = await submit(one, 'sleep 1; echo blocker')
    const ids = [
      await submit(one, 'echo low', { priority: 1 }),
      await submit(one, 'echo high', { priority: 9 }),
      await submit(other, 'echo foreign'),
    ]
    const waiting = client.post('/containers/tool/execute', toolRequest({ session_id: other, command: ['echo', 'me'] }))
    while (service.services.counts().tools_queued < 4) await new Promise((resolve) => setTimeout(resolve, 10))
    await service.stop()
    // Who waits for a run that the next start takes over is told so.
    const told = await waiting
    expect([told.status, told.body.status]).toEqual([202, 'queued'])
    await start()
    const runs = await Promise.all([blocker, ...ids, told.body.execution_id as string].map(ended))
    expect(runs.map(({ status, stdout }) => [status, stdout])).toEqual([
      ['completed', 'blocker\n'],
      ['completed', 'low\n'],
      ['completed', 'high\n'],
      ['completed', 'foreign\n'],
      ['completed', 'me\n'],
    ])
    const [, low, high] = runs
    expect(high?.started_at < low?.started_at).toBe(true)
  })
})
