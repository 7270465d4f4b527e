import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EngineError } from '../../src/errors.ts'
import { Client, sh } from '../fixtures/client.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

let dataDir: string
let service: TestService
const session_id = newSession('restart')

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'co-restart-'))
  service = await startService({ dataDir })
})
afterAll(async () => {
  await service.destroy()
  await rm(dataDir, { recursive: true, force: true })
})

/** Stops the service as SIGTERM does, does something in between, and starts it again on the same data. */
async function restart(between: () => Promise<unknown> = async () => {}): Promise<Client> {
  await service.stop(0)
  await between()
  service = await startService({ dataDir })
  return new Client(service.url)
}

describe('after a restart of the service', () => {
  it('finished runs, their logs and artifacts are still there', async () => {
    const before = new Client(service.url)
    const run = await before.run({ session_id, command: sh('echo kept; printf x > /output/x') })
    const after = await restart()
    expect((await after.get(`/containers/tool/${run.execution_id}`)).body).toEqual(run)
    expect((await after.get(`/containers/tool/${run.execution_id}/logs`)).text).toBe('kept\n')
    expect((await after.get(`/containers/tool/${run.execution_id}/artifacts/x`)).text).toBe('x')
    const events = await after.events(`/containers/tool/${run.execution_id}/logs?follow=true`)
    expect(events.at(-1)).toMatchObject({ event: 'end', data: { status: 'completed' } })
  })

  it('what an error of the engine keeps from being taken over is not swept, and taken over the next time', async () => {
    const before = new Client(service.url)
    const command = sh('i=0; while [ $i -lt 30 ]; do echo $i; i=$((i+1)); sleep 0.4; done')
    const run = await before.run({ session_id, command, wait: false })
    await expect
      .poll(async () => (await before.get(`/containers/tool/${run.execution_id}`)).body.status)
      .toBe('running')
    const { container_id } = (await before.get(`/containers/tool/${run.execution_id}`)).body
    await service.stop(0)
    let refusals = 1
    const refusing = <T extends object>(target: T): T =>
      new Proxy(target, {
        get: (object, name) => {
          if (name === 'inspect' && refusals-- > 0)
            return () => Promise.reject(new EngineError('failed', 'The engine refused'))
          const member: unknown = Reflect.get(object, name)
          return typeof member === 'function' ? member.bind(object) : member
        },
      })
    service = await startService({
      dataDir,
      wrapEngine: (engine) => {
        const containers = refusing(engine.containers)
        return new Proxy(engine, {
          get: (object, name) => {
            if (name === 'containers') return containers
            const member: unknown = Reflect.get(object, name)
            return typeof member === 'function' ? member.bind(object) : member
          },
        })
      },
    })
    const after = new Client(service.url)
    expect((await service.engine.containers.inspect(container_id))?.status).toBe('running')
    await service.services.reconciler.reconcile({ graceMs: 0 })
    await expect
      .poll(async () => (await after.get(`/containers/tool/${run.execution_id}`)).body, { timeout: 40_000 })
      .toMatchObject({ status: 'completed', stdout: Array.from({ length: 30 }, (_, line) => `${line}\n`).join('') })
  })

  it('a relic has kept running, is found again and can be used', async () => {
    const before = new Client(service.url)
    const relic = (
      await before.post('/containers/relic/start', {
        relic_name: 'web',
        session_id,
        image: HTTPD,
        ports: { '8000': 0 },
      })
    ).body
    const after = await restart(async () => {
      const engine = (await startedEngine()).engine
      expect((await engine.containers.inspect(relic.container_id))?.status).toBe('running')
      await engine.close()
    })
    const found = (await after.get(`/containers/relic/${relic.relic_id}`)).body
    expect(found).toMatchObject({
      status: 'healthy',
      container_id: relic.container_id,
      started_at: relic.started_at,
      ports: relic.ports,
    })
    expect((await after.get(`/containers/relic/${relic.relic_id}/health`)).body.healthy).toBe(true)
    expect(await (await fetch(`http://127.0.0.1:${found.ports['8000']}/health`)).text()).toContain('ok')
    const run = await after.run({
      session_id,
      network_mode: 'session',
      command: ['wget', '-qO-', 'http://web:8000/health'],
    })
    expect(run.status).toBe('completed')
    await service.engine.containers.kill(relic.container_id)
    await expect
      .poll(async () => (await after.get(`/containers/relic/${relic.relic_id}`)).body, { timeout: 20_000 })
      .toMatchObject({ status: 'healthy', restarts: 1 })
    expect((await after.delete(`/containers/relic/${relic.relic_id}`)).status).toBe(204)
  })

  it('a run that was in flight goes on, with all of its output once and its own timeout', async () => {
    const before = new Client(service.url)
    const command = sh('i=0; while [ $i -lt 30 ]; do echo "n $i"; i=$((i+1)); sleep 0.1; done; exit 7')
    const run = await before.run({ session_id, command, wait: false })
    const limited = await before.run({
      session_id,
      command: ['sleep', '600'],
      wait: false,
      resource_limits: { timeout_seconds: 4 },
    })
    const path = `/containers/tool/${run.execution_id}`
    await expect.poll(async () => (await before.get(path)).body.stdout, { timeout: 10_000 }).toContain('n 3\n')
    await expect
      .poll(async () => (await before.get(`/containers/tool/${limited.execution_id}`)).body.status, { timeout: 10_000 })
      .toBe('running')
    const after = await restart()
    expect((await after.get(path)).body.status).toBe('running')
    await expect.poll(async () => (await after.get(path)).body.status, { timeout: 20_000 }).toBe('failed')
    const ended = (await after.get(path)).body
    expect(ended).toMatchObject({
      exit_code: 7,
      stdout: Array.from({ length: 30 }, (_, index) => `n ${index}\n`).join(''),
    })
    expect((await after.get(`${path}/logs`)).text).toBe(ended.stdout)
    await expect
      .poll(async () => (await after.get(`/containers/tool/${limited.execution_id}`)).body, { timeout: 20_000 })
      .toMatchObject({ status: 'timeout' })
  })

  it('a run that ended meanwhile is settled with its outcome and output', async () => {
    const before = new Client(service.url)
    const run = await before.run({ session_id, command: sh('sleep 1; echo \'{"late":true}\'; exit 5'), wait: false })
    await expect
      .poll(async () => (await before.get(`/containers/tool/${run.execution_id}`)).body.status, { timeout: 10_000 })
      .toBe('running')
    const after = await restart(() => new Promise((resolve) => setTimeout(resolve, 2_000)))
    await expect
      .poll(async () => (await after.get(`/containers/tool/${run.execution_id}`)).body, { timeout: 10_000 })
      .toMatchObject({ status: 'failed', exit_code: 5, stdout: '{"late":true}\n', result: { late: true } })
  })

  it('a run that never started runs then, once', async () => {
    await service.stop()
    service = await startService({ dataDir, environment: { CO_MAX_CONCURRENT_RUNS: '1' } })
    const before = new Client(service.url)
    const blocker = await before.run({ session_id, command: ['sleep', '600'], wait: false })
    const waiting = await before.run({ session_id, command: sh('echo once'), wait: false })
    await expect
      .poll(async () => (await before.get(`/containers/tool/${blocker.execution_id}`)).body.status, { timeout: 10_000 })
      .toBe('running')
    expect((await before.get(`/containers/tool/${waiting.execution_id}`)).body.status).toBe('queued')
    const after = await restart()
    await expect
      .poll(async () => (await after.get(`/containers/tool/${waiting.execution_id}`)).body, { timeout: 20_000 })
      .toMatchObject({ status: 'completed', stdout: 'once\n' })
    expect((await after.post(`/containers/tool/${blocker.execution_id}/cancel`)).body.status).toBe('cancelled')
  })

  it('a run whose container was removed meanwhile is lost, and a relic too', async () => {
    const before = new Client(service.url)
    const run = await before.run({ session_id, command: ['sleep', '600'], wait: false })
    const relic = (await before.post('/containers/relic/start', { relic_name: 'gone', session_id, image: HTTPD })).body
    await expect
      .poll(async () => (await before.get(`/containers/tool/${run.execution_id}`)).body.status, { timeout: 10_000 })
      .toBe('running')
    const container = (await before.get(`/containers/tool/${run.execution_id}`)).body.container_id
    const after = await restart(async () => {
      const engine = (await startedEngine()).engine
      await engine.containers.remove(container)
      await engine.containers.remove(relic.container_id)
      await engine.close()
    })
    expect((await after.get(`/containers/tool/${run.execution_id}`)).body).toMatchObject({
      status: 'failed',
      failure: { code: 'lost' },
    })
    expect((await after.get(`/containers/relic/${relic.relic_id}`)).body).toMatchObject({
      status: 'failed',
      failure: { code: 'lost' },
    })
  })
})

describe('while it stops', () => {
  it('refuses new work, lets runs in flight end, and answers who waits for them', async () => {
    const client = new Client(service.url)
    const running = client.run({ session_id, command: sh('sleep 1; echo finished') })
    await new Promise((resolve) => setTimeout(resolve, 600))
    const stopping = service.stop(30)
    const refused = await client.post('/containers/tool/execute', {
      tool_name: 't',
      session_id,
      image: TOOLBOX,
      command: ['true'],
    })
    expect([refused.status, refused.body.code]).toEqual([503, 'draining'])
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await client.get('/readyz')).status).toBe(503)
    expect(await running).toMatchObject({ status: 'completed', stdout: 'finished\n' })
    await stopping
    service = await startService({ dataDir })
  })

  it('answers 202 to who waits for a run that lasts longer than the drain, and ends open streams', async () => {
    const client = new Client(service.url)
    const waiting = client.post('/containers/tool/execute', {
      tool_name: 't',
      session_id,
      image: TOOLBOX,
      command: sh('sleep 3; echo later'),
    })
    await expect
      .poll(
        async () => (await client.get(`/containers/tool?session_id=${session_id}&status=running`)).body.items.length,
        { timeout: 10_000 },
      )
      .toBe(1)
    const [{ execution_id }] = (await client.get(`/containers/tool?session_id=${session_id}&status=running`)).body.items
    const following = await fetch(`${service.url}/containers/tool/${execution_id}/logs?follow=true`)
    await service.stop(0)
    const answer = await waiting
    expect([answer.status, answer.body.status, answer.headers.get('location')]).toEqual([
      202,
      'running',
      `/containers/tool/${execution_id}`,
    ])
    // The stream is cut without an `end`: the run has not ended.
    expect(await following.text()).not.toContain('event: end')
    service = await startService({ dataDir })
    const after = new Client(service.url)
    await expect
      .poll(async () => (await after.get(`/containers/tool/${execution_id}`)).body, { timeout: 20_000 })
      .toMatchObject({ status: 'completed', stdout: 'later\n' })
  })
})

async function startedEngine() {
  const { DockerEngine } = await import('../../src/engine/docker/docker-engine.ts')
  return { engine: await DockerEngine.open({ host: process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock' }) }
}
