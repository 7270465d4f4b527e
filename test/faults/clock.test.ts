/**
 * The clock of the host is set while the service works: forward by hours and back. What counts time
 * counts what really passed: runs end when they should and once, nobody starts too late or for ever,
 * nothing young is swept, and what is told stays in order.
 */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { encodeLabels } from '../../src/labels.ts'
import type { SentEvent } from '../fixtures/client.ts'
import { leastContainer } from '../fixtures/container-spec.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import { newSession } from '../fixtures/sessions.ts'
import { untilParked } from '../fixtures/warm-client.ts'
import { Random, seed } from '../support/random.ts'
import { type Installation, install, leftOf, uninstall } from './installation.ts'
import { BEGUN } from './witness.ts'

const HOUR_MS = 3_600_000
const SEED = seed()
/** A look at the clock's file and a call. */
const SETTLE_MS = 60
const REAPER_MS = 5_000
/** On a busy machine an engine stamps a start some time after it. */
const STAMP_MS = 700

let engine: DockerEngine
let folder: string
let installation: Installation
/** Of the test that runs. */
const sessions: string[] = []

beforeAll(async () => {
  engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
  folder = await mkdtemp(join(tmpdir(), 'co-clock-'))
  await setClock(0)
  installation = await install({
    CO_SESSION_SUBNETS: '10.195.32.0/20',
    CO_MAX_CONCURRENT_RUNS: '8',
    FAULTS_CLOCK: join(folder, 'offset'),
    NODE_OPTIONS: `--import=${new URL('jumping-clock.ts', import.meta.url).pathname}`,
  })
})
afterAll(async () => {
  if (installation !== undefined) await uninstall(installation, engine)
  await engine?.close()
  await rm(folder, { recursive: true, force: true })
})
afterEach(async () => {
  await setClock(0)
  for (const session of sessions.splice(0)) await end(session)
})

it('is really set: the service tells the time of its own clock', async () => {
  const { client } = installation
  for (const offset of [5 * HOUR_MS, -5 * HOUR_MS, 0]) {
    await setClock(offset)
    const told = Date.parse((await client.get('/containers/stats')).body.sampled_at)
    expect(Math.abs(told - Date.now() - offset)).toBeLessThan(5_000)
  }
})

it(`runs end when their time is over, and not before, while the clock jumps (seed ${SEED})`, async () => {
  const { client } = installation
  const session = beginSession()
  const random = new Random(SEED)
  const script = (seconds: number) => `echo begun >> /ledger/$EXECUTION_ID; sleep ${seconds}; echo done`
  const volumes = [{ source: 'ledger', target: '/ledger', read_only: false }]
  const begin = async (seconds: number, timeout_seconds: number) => {
    const run = await client.execute(session, script(seconds), {
      wait: false,
      volumes,
      resource_limits: { timeout_seconds },
    })
    return { id: run.execution_id as string, began: performance.now(), seconds, timeout_seconds }
  }
  const over = new AbortController()
  const jumping = jump(random, over.signal)
  const runs = await Promise.all(
    [...Array(4)]
      .flatMap(() => [begin(2, 30), begin(40, 3)])
      .map(async (beginning) => {
        const run = await beginning
        const ended = await client.ended(run.id)
        return { ...run, ended, tookMs: performance.now() - run.began }
      }),
  )
  over.abort()
  await jumping
  for (const { ended, seconds, timeout_seconds, tookMs } of runs) {
    expect(ended.status).toBe(seconds < timeout_seconds ? 'completed' : 'timeout')
    const expectedMs = Math.min(seconds, timeout_seconds) * 1_000
    expect(ended.duration_ms).toBeGreaterThanOrEqual(expectedMs - STAMP_MS)
    expect(ended.duration_ms).toBeLessThan(expectedMs + 5_000)
    expect(tookMs).toBeGreaterThanOrEqual(expectedMs - STAMP_MS)
    expect(tookMs).toBeLessThan(expectedMs + 30_000)
    for (const timing of Object.values(ended.timings)) if (timing !== null) expect(timing).toBeGreaterThanOrEqual(0)
    expect(Date.parse(ended.completed_at)).toBeGreaterThanOrEqual(Date.parse(ended.started_at))
  }
  expect(new Set(runs.map(({ id }) => id)).size).toBe(runs.length)
  const counted = await client.execute(session, 'cat /ledger/* | wc -l; ls /ledger | wc -l', { volumes })
  expect(counted.stdout.split(/\s+/).filter(Boolean).map(Number)).toEqual([runs.length, runs.length])
})

it.each([HOUR_MS, -HOUR_MS])(
  'a run in a parked container runs once, and tells how long, with a clock %i ms from its engine’s',
  async (offset) => {
    const { client } = installation
    const session = beginSession()
    await setClock(offset)
    await client.execute(session, 'true')
    await untilParked(client)
    const began = performance.now()
    const run = await client.execute(session, `${BEGUN}; sleep 1`)
    expect(run).toMatchObject({ status: 'completed', warm: true })
    expect(run.stderr).toBe(`began ${run.execution_id}\n`)
    expect(run.duration_ms).toBeGreaterThanOrEqual(1_000)
    expect(run.duration_ms).toBeLessThan(performance.now() - began)
  },
)

it('a run that a restart adopts behind a jump still has the time that is left', async () => {
  const { client, service } = installation
  const session = beginSession()
  const run = await client.execute(session, 'sleep 6; echo done', {
    wait: false,
    resource_limits: { timeout_seconds: 60 },
  })
  await untilRunning(run.execution_id)
  await service.kill()
  await setClock(5 * HOUR_MS)
  await service.start()
  const ended = await client.ended(run.execution_id)
  expect(ended).toMatchObject({ status: 'completed', stdout: 'done\n' })
})

it('a run that a restart adopts behind a jump back does not get more time than it had', async () => {
  const { client, service } = installation
  const session = beginSession()
  const run = await client.execute(session, 'sleep 100', { wait: false, resource_limits: { timeout_seconds: 8 } })
  await untilRunning(run.execution_id)
  await service.kill()
  await setClock(-5 * HOUR_MS)
  await service.start()
  const status = await client.ended(run.execution_id, 30_000).then(
    (ended) => ended.status,
    (error: unknown) => String(error),
  )
  expect(status).toBe('timeout')
})

it('a worker gets the time to be ready that it asked for', async () => {
  const { client } = installation
  const id = `clock-${randomUUID().slice(0, 8)}`
  const starting = client.post('/containers/worker/start', {
    worker_id: id,
    image: TOOLBOX,
    network: 'none',
    command: ['sh', '-c', 'sleep 4; touch /tmp/ready; sleep 1000'],
    ready: { command: ['test', '-f', '/tmp/ready'], timeout_seconds: 60 },
  })
  await sleep(1_500)
  await setClock(HOUR_MS)
  const answer = await starting
  await client.delete(`/containers/worker/${id}`)
  expect([answer.status, answer.body.detail]).toEqual([201, undefined])
})

it('a worker that is never ready is given up in its time, though the clock goes back', async () => {
  const { client } = installation
  const id = `clock-${randomUUID().slice(0, 8)}`
  const began = performance.now()
  const starting = client.post('/containers/worker/start', {
    worker_id: id,
    image: TOOLBOX,
    network: 'none',
    command: ['sleep', '1000'],
    ready: { command: ['false'], timeout_seconds: 4 },
  })
  await sleep(1_500)
  await setClock(-HOUR_MS)
  const answer = await Promise.race([starting, sleep(20_000).then(() => undefined)])
  const tookMs = performance.now() - began
  await client.delete(`/containers/worker/${id}`)
  await starting
  expect(answer?.status).toBe(504)
  expect(tookMs).toBeLessThan(15_000)
})

it('a command in a worker has its time, and no negative duration', async () => {
  const { client } = installation
  const id = `clock-${randomUUID().slice(0, 8)}`
  await client.ask('/containers/worker/start', { worker_id: id, image: TOOLBOX, network: 'none' })
  const random = new Random(SEED)
  const over = new AbortController()
  const jumping = jump(random, over.signal)
  const [short, long] = await Promise.all([
    client.ask(`/containers/worker/${id}/exec`, { command: 'sleep 2', timeout_seconds: 30 }),
    client.ask(`/containers/worker/${id}/exec`, { command: 'sleep 60', timeout_seconds: 3 }),
  ])
  over.abort()
  await jumping
  await client.delete(`/containers/worker/${id}`)
  expect([short.status, long.status]).toEqual(['completed', 'timeout'])
  expect(short.duration_ms).toBeGreaterThan(1_900)
  expect(long.duration_ms).toBeGreaterThan(2_900)
  expect(long.duration_ms).toBeLessThan(15_000)
})

it('the health of a relic stays current when the clock goes back', async () => {
  const { client } = installation
  const session = beginSession()
  await setClock(HOUR_MS)
  const relic = await client.ask('/containers/relic/start', { relic_name: 'web', session_id: session, image: HTTPD })
  await setClock(0)
  const probes = async () => (await client.get(`/containers/relic/${relic.relic_id}/health`)).body.probes
  const before = JSON.stringify(await probes())
  await sleep(1_500)
  const after = JSON.stringify(await probes())
  expect(after).not.toBe(before)
})

it('what is young is no orphan, whatever the clock says', async () => {
  const { client, instance } = installation
  const image = await engine.images.inspect(TOOLBOX)
  const labels = (kind: 'tool' | 'volume') =>
    encodeLabels({ instance, kind, id: `exec_${randomUUID()}`, session: 'nobody', nonce: randomUUID() })
  const id = await engine.containers.create(
    leastContainer({ name: `clock_${randomUUID()}`, imageId: image?.id ?? '', labels: labels('tool') }),
  )
  const volume = `clock_${randomUUID()}`
  await engine.volumes.create(volume, labels('volume'))
  await client.ask('/containers/cleanup/orphans', {})
  expect([(await engine.containers.inspect(id))?.id, (await engine.volumes.inspect(volume))?.name]).toEqual([
    id,
    volume,
  ])
  await setClock(5 * HOUR_MS)
  const report = await client.ask('/containers/cleanup/orphans', {})
  const left = [(await engine.containers.inspect(id))?.id, (await engine.volumes.inspect(volume))?.name]
  await engine.containers.remove(id)
  await engine.volumes.remove(volume)
  expect({ left, removed: report.containers_removed + report.volumes_removed }).toEqual({
    left: [id, volume],
    removed: 0,
  })
})

it('a session that is in use a moment ago is not idle for hours', async () => {
  const { client } = installation
  const session = beginSession()
  await client.send('PUT', `/sessions/${session}`, { idle_timeout_seconds: 7_200 })
  await client.execute(session, 'true')
  await setClock(5 * HOUR_MS)
  await sleep(REAPER_MS + 2_000)
  const { status } = await client.get(`/sessions/${session}`)
  expect(status).toBe(200)
})

it('lists stay newest first, ids stay unique, and events keep coming in order', async () => {
  const { client } = installation
  const session = beginSession()
  const wanted = 6
  const following = client.events(`/events?session_id=${session}`, {
    enough: (() => {
      let ended = 0
      return ({ event }: SentEvent) => event === 'tool.completed' && ++ended === wanted
    })(),
  })
  await sleep(200)
  const made: string[] = []
  for (const offset of [0, 5, -5, 3, -3, 0].slice(0, wanted)) {
    await setClock(offset * HOUR_MS)
    made.push((await client.execute(session, 'true')).execution_id)
  }
  const events = await Promise.race([following, sleep(20_000).then(() => [])])
  expect(new Set(made).size).toBe(wanted)
  expect(events.filter(({ event }) => event === 'tool.completed').map(({ data }) => data.execution_id)).toEqual(made)
  const ids = events.map(({ id }) => Number(id))
  expect(ids).toEqual(ids.toSorted((a, b) => a - b))
  const listed = (await client.all(`/containers/tool?session_id=${session}`)).map(({ execution_id }) => execution_id)
  expect(listed).toEqual(made.toReversed())
})

it('leaves nothing', async () => {
  expect(await leftOf(installation, engine)).toEqual([])
})

async function setClock(offsetMs: number): Promise<void> {
  await writeFile(join(folder, 'offset'), String(offsetMs))
  await sleep(SETTLE_MS)
}

/** Forward and back, by hours, until the signal aborts. */
async function jump(random: Random, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await setClock(random.between(-6, 6) * HOUR_MS)
    await sleep(random.between(50, 500), undefined, { signal }).catch(() => {})
  }
  await setClock(0)
}

async function untilRunning(executionId: string): Promise<void> {
  for (;;) {
    const { body } = await installation.client.get(`/containers/tool/${executionId}`)
    if (body.status === 'running') return
    await sleep(50)
  }
}

function beginSession(): string {
  const session = newSession('clock')
  sessions.push(session)
  return session
}

async function end(session_id: string): Promise<void> {
  await installation.client.ask('/containers/cleanup/session', { session_id, force: true })
}
