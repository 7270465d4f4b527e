/**
 * Many runs wait: the service does not hold in memory what they ask for, they are all there after a
 * crash, keep their places by session, and end with their session without having started.
 *
 * FAULTS_QUEUED sets how many (500).
 */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { newSession } from '../fixtures/sessions.ts'
import { report } from '../support/report.ts'
import { type Installation, install, leftOf, uninstall } from './installation.ts'

/** At least so many that a request, with its part of the bytes below, is one that the service takes. */
const LEAST = 300
const QUEUED = Math.max(LEAST, Number(process.env['FAULTS_QUEUED'] ?? 500))
const SESSIONS = 20
const AT_ONCE = 16
/** The service may have no more: it would die if it held what waits. */
const HEAP_MB = 96
/** What each run is to read: together twice the heap. */
const STDIN_BYTES = Math.ceil((2 * HEAP_MB * 1024 ** 2) / QUEUED)

let engine: DockerEngine
let installation: Installation

beforeAll(async () => {
  engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
  installation = await install({
    CO_SESSION_SUBNETS: '10.195.64.0/20',
    CO_MAX_CONCURRENT_RUNS: '1',
    CO_QUEUE_LIMIT: String(QUEUED + 1),
    NODE_OPTIONS: `--max-old-space-size=${HEAP_MB}`,
  })
})
afterAll(async () => {
  if (installation !== undefined) await uninstall(installation, engine)
  await engine?.close()
})

it(`keeps ${QUEUED} waiting runs cheaply and safely`, async () => {
  const { client, service } = installation
  const sessions = Array.from({ length: SESSIONS }, () => newSession())
  const blocking = newSession()
  const execute = (session: string, command: string[], stdin?: string) =>
    client.ask('/containers/tool/execute', {
      tool_name: 'waits',
      session_id: session,
      image: TOOLBOX,
      command,
      stdin,
      wait: false,
      resource_limits: { timeout_seconds: 3_600 },
    })
  await execute(blocking, ['sleep', '3600'])
  let next = 0
  const submit = async () => {
    for (let number = next++; number < QUEUED; number = next++) {
      await execute(sessions[number % SESSIONS] ?? '', ['true'], 'x'.repeat(STDIN_BYTES))
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, submit))
  expect(await waiting()).toBe(QUEUED)

  await service.kill()
  const recovery = await service.start()
  expect(await waiting()).toBe(QUEUED)
  // Each session has one among the first SESSIONS turns.
  const places = await Promise.all(
    sessions.map(async (session) => {
      const runs = await client.all(`/containers/tool?session_id=${session}`)
      return Math.min(...runs.map((run: { queue_position: number }) => run.queue_position))
    }),
  )
  expect(places.toSorted((a, b) => a - b)).toEqual(Array.from({ length: SESSIONS }, (_, place) => place + 1))

  let cancelled = 0
  for (const session of [...sessions, blocking]) {
    const { tools_cancelled } = await client.ask('/containers/cleanup/session', { session_id: session, force: true })
    cancelled += tools_cancelled
  }
  expect(cancelled).toBe(QUEUED + 1)
  expect(await leftOf(installation, engine)).toEqual([])
  await report('Runs that wait', {
    waiting: QUEUED,
    sessions: SESSIONS,
    'their requests MB': 2 * HEAP_MB,
    'heap of the service MB': HEAP_MB,
    'lost in a crash': 0,
    'recovery ms': Math.round(recovery),
  })

  async function waiting(): Promise<number> {
    return (await client.get('/health')).body.counts.tools_queued
  }
})
