import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Client, type SentEvent, sh, toolRequest } from '../fixtures/client.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

let service: TestService
let client: Client
/** Stats streams that the engine was asked for, and lists of containers. */
const asked = { streams: [] as string[], lists: 0 }

beforeAll(async () => {
  service = await startService({
    wrapEngine: (engine) => {
      const { containers } = engine
      const [stats, list] = [containers.stats.bind(containers), containers.list.bind(containers)]
      containers.stats = (id, signal) => {
        asked.streams.push(id)
        return stats(id, signal)
      }
      containers.list = (labels) => {
        asked.lists += 1
        return list(labels)
      }
      return engine
    },
  })
  client = new Client(service.url)
})
afterAll(() => service.destroy())

const BUSY = sh('while :; do :; done')
const idle = sh('trap exit TERM; sleep 600 & wait')

async function startRelic(relic_name: string, command: readonly string[]) {
  const session_id = newSession()
  const body = { relic_name, session_id, image: TOOLBOX, command, health_check_endpoint: null }
  const relic = await client.post('/containers/relic/start', { ...body, resource_limits: { memory_mb: 64 } })
  expect(relic.status).toBe(201)
  return { id: relic.body.relic_id as string, container_id: relic.body.container_id as string, session_id }
}

describe('GET /containers/stats', () => {
  it('opens one stream for all who ask, and asks the engine for no list while nothing changes', async () => {
    const { id, container_id, session_id } = await startRelic('busy', BUSY)
    await Promise.all([client.get('/containers/stats'), client.get(`/containers/stats/${id}`)])
    const before = asked.lists
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        client.get(
          ['/containers/stats', `/containers/stats/${id}`, `/containers/stats/${container_id}`][index % 3] ?? '',
        ),
      ),
    )
    const follower = client.events(`/containers/stats/${id}?follow=true`, { enough: (event) => event.id === '3' })
    expect((await follower).map(({ event }) => event)).toEqual(['stats', 'stats', 'stats'])
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 200))
    expect(asked.streams.filter((stream) => stream === container_id)).toHaveLength(1)
    // Regular work of the service lists, too, and far less often.
    expect(asked.lists - before).toBeLessThan(3)
    await client.post('/containers/cleanup/session', { session_id, force: true })
    expect((await client.get(`/containers/stats?session_id=${session_id}`)).body.items).toEqual([])
    expect((await client.get(`/containers/stats/${id}`)).status).toBe(404)
  })

  it('tells of what has just been made, stopped and started, at once', async () => {
    const { id, session_id } = await startRelic('idle', idle)
    const told = async () => (await client.get(`/containers/stats/${id}`)).body
    expect(await told()).toMatchObject({ status: 'running', memory_limit_mb: 64, pids: expect.any(Number) })
    await client.post(`/containers/relic/${id}/stop`, { timeout_seconds: 5 })
    expect(await told()).toMatchObject({ status: 'exited', running_for_seconds: null, cpu_percent: null, pids: null })
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    const restarted = Date.now()
    await client.post(`/containers/relic/${id}/restart`)
    const again = await told()
    expect(again).toMatchObject({ status: 'running', pids: expect.any(Number) })
    expect(again.running_for_seconds).toBeLessThan((Date.now() - restarted) / 1000 + 0.1)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('measures CPU between two samples, and says over what time', async () => {
    const { id, session_id } = await startRelic('busy', BUSY)
    // An engine that is busy has no sample yet when the first answer is due, which has nulls then.
    const stats = async () => (await client.get(`/containers/stats/${id}`)).body
    await expect.poll(stats).toMatchObject({ cpu_percent: expect.any(Number), cpu_window_seconds: expect.any(Number) })
    const { cpu_percent: first, cpu_window_seconds: since } = await stats()
    expect(first).toBeGreaterThan(5)
    expect(since).toBeGreaterThan(0)
    const events = await client.events(`/containers/stats/${id}?follow=true`, { enough: (event) => event.id === '3' })
    const { cpu_percent, cpu_window_seconds } = events.at(-1)?.data ?? {}
    expect(cpu_percent).toBeGreaterThan(5)
    expect(cpu_window_seconds).toBeGreaterThan(0.5)
    expect(cpu_window_seconds).toBeLessThan(5)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })
})

describe('GET /containers/stats/{id}?follow=true', () => {
  it('tells each sample once, and ends with the process', async () => {
    const { body: run } = await client.post(
      '/containers/tool/execute',
      toolRequest({ session_id: newSession(), command: ['sleep', '4'], wait: false }),
    )
    await expect
      .poll(async () => (await client.get(`/containers/tool/${run.execution_id}`)).body.status)
      .toBe('running')
    const events = await client.events(`/containers/stats/${run.execution_id}?follow=true`)
    expect(events.at(-1)?.event).toBe('end')
    const told = events.filter(({ event, data }) => event === 'stats' && data.status === 'running')
    expect(told.length).toBeGreaterThanOrEqual(2)
    const times = told.map(({ data }: SentEvent) => data.sampled_at)
    expect(new Set(times).size).toBe(times.length)
    // The run's own meter and its followers share a stream.
    expect(asked.streams.filter((stream) => stream === told[0]?.data.container_id)).toHaveLength(1)
  })
})

describe('GET /containers/stats/{id}?history=', () => {
  it('adds the samples of that time, also of a container that has ended', async () => {
    const { id, session_id } = await startRelic('idle', idle)
    const past = async (history: string) => (await client.get(`/containers/stats/${id}?history=${history}`)).body
    expect((await client.get(`/containers/stats/${id}`)).body).not.toHaveProperty('history')
    await expect.poll(async () => (await past('10m')).history.length).toBeGreaterThanOrEqual(3)
    const { history, sampled_at } = await past('1h')
    expect(history.at(-1)).toEqual({
      sampled_at,
      cpu_percent: expect.any(Number),
      cpu_window_seconds: expect.any(Number),
      memory_used_mb: expect.any(Number),
      memory_percent: expect.any(Number),
      network_rx_mb: expect.any(Number),
      network_tx_mb: expect.any(Number),
      disk_read_mb: expect.toSatisfy((value) => value === null || value >= 0),
      disk_write_mb: expect.toSatisfy((value) => value === null || value >= 0),
      pids: expect.any(Number),
    })
    const times = history.map((sample: { sampled_at: string }) => sample.sampled_at)
    expect(times).toEqual([...new Set(times)].toSorted())
    const [first] = await client.events(`/containers/stats/${id}?follow=true&history=10m`, { enough: () => true })
    expect(first?.data.history.length).toBeGreaterThanOrEqual(history.length)

    await client.post(`/containers/relic/${id}/stop`, { timeout_seconds: 5 })
    const ended = await past('10m')
    expect(ended).toMatchObject({ status: 'exited', sampled_at: null })
    expect(ended.history.length).toBeGreaterThanOrEqual(history.length)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it.each(['', '0s', '10', '-1m', '1.5h', '2h', '3601s', '61m', '10 m', '1d', '99999s'])(
    'refuses "%s"',
    async (history) => {
      const answer = await client.get(`/containers/stats/x?history=${encodeURIComponent(history)}`)
      expect([answer.status, answer.body.code, answer.body.errors?.[0]?.path]).toEqual([
        400,
        'validation_failed',
        'history',
      ])
    },
  )
})
