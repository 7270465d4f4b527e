/**
 * Many runs wait: they cost the service little memory, are all there after a crash, keep their places
 * by session, and end with their session without having started.
 *
 * FAULTS_QUEUED sets how many (500).
 */
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { newSession } from '../fixtures/sessions.ts'
import { report } from '../support/report.ts'
import { type Installation, install, leftOf, uninstall } from './installation.ts'

const QUEUED = Number(process.env['FAULTS_QUEUED'] ?? 500)
const SESSIONS = 20
const AT_ONCE = 16
/** Parameters of each run: what waits must not be held in memory. */
const PARAMETER_BYTES = 20_000
const BYTES_EACH = 4_000
/** Of a garbage-collected process that does anything at all. */
const SLACK_BYTES = 96 * 1024 ** 2

let engine: DockerEngine
let installation: Installation

beforeAll(async () => {
  engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
  installation = await install({
    CO_SESSION_SUBNETS: '10.195.64.0/20',
    CO_MAX_CONCURRENT_RUNS: '1',
    CO_QUEUE_LIMIT: String(QUEUED + 1),
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
  const execute = (session: string, command: string[], parameters: object = {}) =>
    client.ask('/containers/tool/execute', {
      tool_name: 'waits',
      session_id: session,
      image: TOOLBOX,
      command,
      parameters,
      wait: false,
      resource_limits: { timeout_seconds: 3_600 },
    })
  await execute(blocking, ['sleep', '3600'])
  const before = await residentBytes(service.pid)
  let next = 0
  const submit = async () => {
    for (let number = next++; number < QUEUED; number = next++) {
      await execute(sessions[number % SESSIONS] ?? '', ['true'], { text: 'x'.repeat(PARAMETER_BYTES) })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, submit))
  const grown = (await residentBytes(service.pid)) - before
  expect(await waiting()).toBe(QUEUED)
  expect(grown).toBeLessThan(SLACK_BYTES + QUEUED * BYTES_EACH)

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
    'parameters of each KB': PARAMETER_BYTES / 1000,
    'memory grown MB': Math.round(grown / 1024 ** 2),
    'lost in a crash': 0,
    'recovery ms': Math.round(recovery),
  })

  async function waiting(): Promise<number> {
    return (await client.get('/health')).body.counts.tools_queued
  }
})

async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024
}
