import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
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

const health = async (workerId: string) => (await client.get(`/containers/worker/${workerId}/health`)).body
const codes = (answer: { reasons: { code: string }[] }) => answer.reasons.map(({ code }) => code)

describe('GET /containers/worker/{id}/health', () => {
  it('says healthy, with age, disk and memory, and what the engine found', async () => {
    const healthcheck = { command: 'echo "$MOOD"; test -f /workspace/well', interval_seconds: 1, retries: 3 }
    await client.startWorker('h1', { healthcheck, environment: { MOOD: 'fine' }, command: 'touch well; sleep 600' })
    await expect.poll(async () => (await health('h1')).healthcheck?.status, { timeout: 10_000 }).toBe('healthy')
    const well = await health('h1')
    expect(well).toMatchObject({ healthy: true, reasons: [], status: 'running' })
    expect(well.age_hours).toBeGreaterThan(0)
    expect(well.disk_percent).toBeGreaterThan(0)
    expect(well.memory_percent).toBeGreaterThan(0)
    expect(well.healthcheck.checks.at(-1)).toMatchObject({ exit_code: 0, output: 'fine\n' })

    await client.output('h1', 'rm well')
    await expect.poll(async () => codes(await health('h1')), { timeout: 15_000 }).toEqual(['healthcheck'])
    expect((await health('h1')).healthcheck).toMatchObject({ status: 'unhealthy' })
    await client.delete('/containers/worker/h1')
  })

  it('says what is over the worker’s own bounds', async () => {
    const refresh_policy = { max_age_hours: 0.0001, disk_percent: 1, memory_percent: 1 }
    const command = "x=$(head -c 12000000 /dev/zero | tr '\\0' x); sleep 600 & wait"
    await client.startWorker('h2', { refresh_policy, memory_limit: '64m', command })
    await expect.poll(async () => codes(await health('h2')), { timeout: 10_000 }).toEqual(['age', 'disk', 'memory'])
    await client.post('/containers/worker/h2/stop', { timeout_seconds: 0 })
    expect(codes(await health('h2'))).toContain('not_running')
    await client.delete('/containers/worker/h2')
    expect((await client.get('/containers/worker/h2/health')).status).toBe(404)
  })
})

describe('GET /containers/worker/{id}/stats', () => {
  it('adds age and the disk of the workspace to what a container uses', async () => {
    await client.startWorker('s1')
    const stats = (await client.get('/containers/worker/s1/stats')).body
    expect(stats).toMatchObject({ kind: 'worker', id: 's1', status: 'running', memory_limit_mb: 4096 })
    expect(stats.age_hours).toBeGreaterThan(0)
    expect(stats.disk.total_mb).toBeGreaterThan(stats.disk.used_mb)
    expect((await client.get('/containers/stats/s1')).body.container_id).toBe(stats.container_id)
    expect((await client.get('/containers/stats?kind=worker')).body.items.map(({ id }: { id: string }) => id)).toEqual([
      's1',
    ])
    await client.delete('/containers/worker/s1')
  })
})

describe('POST /containers/worker/{id}/refresh', () => {
  it('puts a new container in the place of the old one and keeps the workspace', async () => {
    const before = await client.startWorker('r1', { ports: { '8000': 0 }, command: 'httpd -f -p 8000 -h /workspace' })
    await client.output('r1', 'echo kept > file; echo lost > /tmp/file')
    const answer = await client.post('/containers/worker/r1/refresh', { timeout_seconds: 1 })
    expect(answer.status).toBe(200)
    expect(answer.body).toMatchObject({ status: 'running', refreshes: 1, ports: before.ports, user: before.user })
    expect(answer.body.container_id).not.toBe(before.container_id)
    await expect.poll(() => service.engine.containers.inspect(before.container_id)).toBeUndefined()
    expect(await client.output('r1', 'cat file; ls /tmp')).toBe('kept')
    expect(await (await fetch(`http://127.0.0.1:${before.ports['8000']}/file`)).text()).toBe('kept\n')
    await client.delete('/containers/worker/r1')
  })

  it('gives a stopped worker a new container and starts it', async () => {
    const { container_id } = await client.startWorker('r6')
    await client.output('r6', 'echo kept > file')
    await client.post('/containers/worker/r6/stop', { timeout_seconds: 0 })
    const answer = await client.post('/containers/worker/r6/refresh')
    expect(answer.body).toMatchObject({ status: 'running', refreshes: 1 })
    expect(answer.body.container_id).not.toBe(container_id)
    expect(await client.output('r6', 'cat file')).toBe('kept')
    await client.delete('/containers/worker/r6')
  })

  it('in the middle of a command waits for its end or refuses, as asked', async () => {
    const { container_id } = await client.startWorker('r2')
    const running = client.exec('r2', 'sleep 1; echo whole')
    await sleep(300)
    const refused = await client.post('/containers/worker/r2/refresh', { when_busy: 'refuse' })
    expect([refused.status, refused.body.code]).toEqual([409, 'conflict'])
    const impatient = await client.post('/containers/worker/r2/refresh', { wait_seconds: 0.1 })
    expect(impatient.status).toBe(409)
    expect((await client.worker('r2')).container_id).toBe(container_id)
    const waiting = client.post('/containers/worker/r2/refresh', { when_busy: 'wait', timeout_seconds: 0 })
    await sleep(50)
    // One that comes while the container is replaced runs in the new one.
    const later = client.output('r2', 'echo later')
    expect(await running).toMatchObject({ status: 'completed', stdout: 'whole\n' })
    expect((await waiting).status).toBe(200)
    expect(await later).toBe('later')
    expect((await client.worker('r2')).container_id).not.toBe(container_id)
    await client.delete('/containers/worker/r2')
  })

  it('keeps the old container where the new one does not get ready', async () => {
    const command = '[ ! -f only ] || [ "$(cat only)" = "$(hostname)" ]'
    const { container_id } = await client.startWorker('r3', { ready: { command, timeout_seconds: 1 } })
    await client.output('r3', 'hostname > only')
    const answer = await client.post('/containers/worker/r3/refresh', { timeout_seconds: 0 })
    expect([answer.status, answer.body.phase]).toEqual([504, 'ready'])
    expect(await client.worker('r3')).toMatchObject({ status: 'running', container_id, refreshes: 0, failure: null })
    expect(await client.output('r3', 'echo runs')).toBe('runs')
    const containers = async () =>
      (await service.services.docker.list()).filter(({ owner }) => owner.name === 'r3').map(({ id }) => id)
    await expect.poll(containers).toEqual([container_id])

    // Where the old one does not get ready again either, that is told, and its container kept.
    await client.output('r3', 'echo nobody > only')
    expect((await client.post('/containers/worker/r3/refresh', { timeout_seconds: 0 })).status).toBe(504)
    expect(await client.worker('r3')).toMatchObject({ status: 'failed', container_id })
    expect((await client.get('/containers/worker/r3/files/only')).text).toBe('nobody\n')
    await client.delete('/containers/worker/r3')
  })

  it('is done by the service where the worker’s policy says so', async () => {
    const refresh_policy = { max_age_hours: 0.0001, action: 'refresh' }
    const { container_id } = await client.startWorker('r4', { refresh_policy })
    await client.startWorker('r5', { refresh_policy: { max_age_hours: 0.0001 } })
    await sleep(400)
    const busy = client.exec('r4', 'sleep 1')
    await sleep(200)
    await service.services.workerHealth.refreshDue()
    expect((await client.worker('r4')).container_id).toBe(container_id)
    await busy
    await service.services.workerHealth.refreshDue()
    expect(await client.worker('r4')).toMatchObject({ refreshes: 1, status: 'running' })
    expect((await client.worker('r5')).refreshes).toBe(0)
    // What a refresh does not cure is not refreshed again at once.
    await service.services.workerHealth.refreshDue()
    expect((await client.worker('r4')).refreshes).toBe(1)
    await Promise.all(['r4', 'r5'].map((id) => client.delete(`/containers/worker/${id}`)))
  })
})

describe('a removal', () => {
  it('rules out all that is asked for beside it, and leaves nothing', async () => {
    for (let round = 0; round < 2; round++) {
      await client.startWorker('gone')
      const busy = client.exec('gone', 'sleep 30').catch((error: unknown) => error)
      await expect.poll(() => client.processes('gone')).toContain('sleep 30')
      const [removed, ...others] = await Promise.all([
        client.delete('/containers/worker/gone'),
        client.post('/containers/worker/gone/refresh', { timeout_seconds: 0 }),
        client.post('/containers/worker/gone/restart'),
        client.post('/containers/worker/gone/ensure', { image: TOOLBOX }),
      ])
      expect(removed.status).toBe(204)
      for (const { status } of others) expect([404, 409]).toContain(status)
      expect(await busy).toMatchObject({ status: 'failed' })
      expect((await client.get('/containers/worker/gone')).status).toBe(404)
      expect((await service.services.docker.list()).filter(({ owner }) => owner.name === 'gone')).toEqual([])
    }
  })
})

describe('capacity', () => {
  it('is told with the list, and what is beyond the operator’s bounds is a 429', async () => {
    const bounded = await startService({
      environment: { CO_MAX_WORKERS: '2', CO_WORKERS_MEMORY: '1g', CO_WORKERS_CPUS: '2' },
    })
    try {
      const small = new WorkerClient(bounded.url)
      const wish = { memory_limit: '256m', cpu_limit: 0.5 }
      const starts = await Promise.all(
        ['c1', 'c2', 'c3'].map((worker_id) =>
          small.post('/containers/worker/start', { worker_id, image: TOOLBOX, ...wish }),
        ),
      )
      expect(starts.map(({ status }) => status).toSorted()).toEqual([201, 201, 429])
      const refused = starts.find(({ status }) => status === 429)
      expect(refused?.body.code).toBe('quota_exceeded')
      expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(0)
      const list = (await small.get('/containers/worker')).body
      expect(list).toMatchObject({
        running: 2,
        capacity: {
          running: 2,
          memory_limit_bytes: 512 * 1024 ** 2,
          cpu_limit: 1,
          allowed: { workers: 2, memory_bytes: 1024 ** 3, cpus: 2 },
        },
      })
      expect(list.capacity.host.cores).toBeGreaterThan(0)
      expect(list.items).toHaveLength(2)
      const [first] = list.items
      await small.post(`/containers/worker/${first.worker_id}/stop`, { timeout_seconds: 0 })
      const big = await small.post('/containers/worker/start', { worker_id: 'c4', image: TOOLBOX, memory_limit: '1g' })
      expect([big.status, big.body.detail]).toEqual([429, expect.stringContaining('memory')])
      await small.startWorker('c5', wish)
      const full = await small.post(`/containers/worker/${first.worker_id}/ensure`, { image: TOOLBOX, ...wish })
      expect(full.status).toBe(429)
      // Of two that stopped, one finds room, however they ask at once.
      await Promise.all(
        (await small.get('/containers/worker')).body.items.map(({ worker_id }: { worker_id: string }) =>
          small.post(`/containers/worker/${worker_id}/stop`, { timeout_seconds: 0 }),
        ),
      )
      await small.startWorker('c6', wish)
      const again = await Promise.all(
        [first.worker_id, 'c5'].map((id) => small.post(`/containers/worker/${id}/ensure`, { image: TOOLBOX, ...wish })),
      )
      expect(again.map(({ status }) => status).toSorted()).toEqual([200, 429])
    } finally {
      await bounded.destroy()
    }
  })
})

describe('the internal bridge', () => {
  it('is there while a worker is, stopped or not, and goes with the last', async () => {
    const { network } = await client.startWorker('last')
    await client.post('/containers/worker/last/stop', { timeout_seconds: 0 })
    await service.services.reconciler.sweep({ dryRun: false, graceMs: 0 })
    expect(await service.engine.networks.inspect(network.id)).toBeDefined()
    await client.delete('/containers/worker/last')
    await service.services.reconciler.sweep({ dryRun: false, graceMs: 0 })
    expect(await service.engine.networks.inspect(network.id)).toBeUndefined()
    expect((await client.startWorker('next')).network.id).not.toBe(network.id)
    await client.delete('/containers/worker/next')
  })
})

describe('a session with workers', () => {
  it('shows them, and one cleanup ends two workers and a relic', async () => {
    const session_id = newSession()
    const relic = client.post('/containers/relic/start', { relic_name: 'web', image: HTTPD, session_id })
    const workers = ['one', 'two'].map((id) =>
      client.startWorker(`${session_id}-${id}`, { session_id, network: 'session', workspace: { volume: 'shared' } }),
    )
    await Promise.all([relic, ...workers])
    expect(await client.output(`${session_id}-one`, 'wget -qO- http://web:8000/health')).toContain('ok')
    const session = (await client.get(`/sessions/${session_id}`)).body
    expect(session.workers).toHaveLength(2)
    expect(session.usage).toMatchObject({ containers: 3, running: 3 })
    const summary = (await client.get('/sessions')).body.items.find(
      (item: { session_id: string }) => item.session_id === session_id,
    )
    expect(summary.workers).toEqual({ total: 2, active: 2 })
    const planned = await client.post('/containers/cleanup/session', { session_id, dry_run: true })
    expect(planned.body).toMatchObject({ containers_removed: 3, networks_removed: 1, volumes_removed: 1 })
    const cleaned = await client.post('/containers/cleanup/session', { session_id, force: true })
    expect(cleaned.body).toMatchObject({ containers_removed: 3, networks_removed: 1, volumes_removed: 1, errors: [] })
    expect((await client.get(`/containers/worker/${session_id}-one`)).status).toBe(404)
    expect((await client.get(`/containers/worker?session_id=${session_id}`)).body.items).toEqual([])
  })
})

describe('a restart of the service', () => {
  it('finds its workers running, with logs, ports and restarts, and settles what had ended', async () => {
    const first = await startService()
    const before = new WorkerClient(first.url)
    const command = 'echo up; httpd -p 8000 -h /workspace; while :; do sleep 0.2; [ -f end ] && rm end && exit 7; done'
    const [started, gone] = await Promise.all([
      before.startWorker('kept', { command, ports: { '8000': 0 }, environment: { A: 'kept' } }),
      before.startWorker('gone'),
      before.startWorker('paused').then(() => before.post('/containers/worker/paused/pause')),
      before.startWorker('stopped').then(() => before.post('/containers/worker/stopped/stop', { timeout_seconds: 0 })),
    ])
    const exec = await before.exec('kept', 'sleep 620', { wait: false })
    await first.stop()
    const engine = await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' })
    await engine.containers.remove(gone.container_id)
    await engine.close()
    const second = await startService({ dataDir: first.dataDir })
    try {
      const after = new WorkerClient(second.url)
      expect(await after.worker('kept')).toMatchObject({ status: 'running', container_id: started.container_id })
      expect((await after.get(`/containers/worker/kept/exec/${exec.exec_id}`)).body).toMatchObject({
        status: 'failed',
        failure: { code: 'lost' },
      })
      expect(await after.processes('kept')).not.toContain('sleep 620')
      expect(await after.output('kept', 'echo $A; echo served > file')).toBe('kept')
      const { ports } = await after.worker('kept')
      expect(await (await fetch(`http://127.0.0.1:${ports['8000']}/file`)).text()).toBe('served\n')
      expect(await after.worker('gone')).toMatchObject({ status: 'failed', failure: { code: 'lost' } })
      expect((await after.worker('paused')).status).toBe('paused')
      expect((await after.post('/containers/worker/paused/resume')).body.status).toBe('running')
      expect((await after.worker('stopped')).status).toBe('stopped')
      expect((await after.post('/containers/worker/stopped/ensure', { image: TOOLBOX })).body.status).toBe('running')
      // One that ends is started again, with its environment.
      await after.output('kept', 'touch end')
      await expect.poll(async () => (await after.worker('kept')).restarts, { timeout: 10_000 }).toBe(1)
      await expect.poll(async () => (await after.worker('kept')).status, { timeout: 10_000 }).toBe('running')
      expect(await after.output('kept', 'echo $A')).toBe('kept')
      expect((await after.get('/containers/worker/kept/logs')).text).toBe('up\nup\n')
    } finally {
      await second.destroy()
    }
  })
})
