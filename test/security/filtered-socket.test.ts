import { execFile } from 'node:child_process'
import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { sh, toolRequest } from '../fixtures/client.ts'
import { documentedPaths, EngineFilter } from '../fixtures/engine-filter.ts'
import { HTTPD, TOOLBOX, UNREACHABLE } from '../fixtures/images.ts'
import { removeAll } from '../fixtures/service.ts'
import {
  buildServiceImage,
  removeServiceImage,
  runServiceImage,
  type ServiceContainer,
} from '../fixtures/service-image.ts'
import { newSession } from '../fixtures/sessions.ts'
import { WorkerClient } from '../fixtures/workers.ts'

const bash = promisify(execFile)
const ROOT = new URL('../..', import.meta.url).pathname

let tag: string
let filter: EngineFilter
let container: ServiceContainer
let client: WorkerClient

beforeAll(async () => {
  tag = await buildServiceImage()
  filter = await EngineFilter.open()
  const environment = { CO_SESSION_SUBNETS: '10.198.0.0/16', CO_ALLOW_BUILD: 'true' }
  container = await runServiceImage(tag, environment, [], filter.path)
  client = new WorkerClient(container.url)
  await vi.waitFor(async () => expect((await client.get('/readyz')).status).toBe(200), {
    timeout: 20_000,
    interval: 200,
  })
}, 300_000)
afterAll(async () => {
  const instance = /"instance":"([^"]+)"/.exec(await container.logs())?.[1] ?? ''
  await container.remove()
  const engine = await DockerEngine.open({ host: 'unix:///var/run/docker.sock' })
  await removeAll(engine, instance)
  await engine.close()
  await removeServiceImage(tag)
  await filter[Symbol.asyncDispose]()
})

/** Asks through the filter, past the service. */
function askFiltered(method: string, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: filter.path, method, path, headers: { connection: 'close' } }, (answer) => {
      text(answer).then((body) => resolve({ status: answer.statusCode ?? 0, body }), reject)
    })
    asked.on('error', reject)
    asked.end()
  })
}

describe('the service in its container, behind a filter of the documented paths', () => {
  const session_id = newSession('filtered')
  const execute = (body: object) => client.post('/containers/tool/execute', toolRequest({ session_id, ...body }))

  it('passes both examples', { timeout: 180_000 }, async () => {
    for (const [script, last] of [
      ['quickstart.sh', 'all steps passed'],
      ['worker.sh', 'worker: '],
    ] as const) {
      const env = { ...process.env, BASE_URL: container.url, SESSION: newSession('filtered') }
      const { stdout } = await bash('bash', [`examples/${script}`], { cwd: ROOT, env })
      expect(stdout).toContain(last)
    }
  })

  it('runs tools with files, volumes, artifacts and images of their own, and ends them', async () => {
    const run = await execute({
      command: sh('cat /input/in.txt; echo kept > /output/out.txt; echo named > /data/file'),
      input_files: { 'in.txt': 'given\n' },
      volumes: [{ source: 'kept', target: '/data', read_only: false }],
    })
    expect([run.status, run.body.status], run.text).toEqual([200, 'completed'])
    const built = await execute({ dockerfile: `FROM ${TOOLBOX}\nRUN echo built > /made`, command: ['cat', '/made'] })
    expect(built.body.stdout, built.text).toBe('built\n')
    const absent = await execute({ image: UNREACHABLE, command: ['true'] })
    expect([absent.body.status, absent.text]).toEqual(['failed', expect.stringMatching(/image_not_found|pull_failed/)])
    const endless = await execute({ command: ['sleep', '60'], wait: false })
    const cancelled = await client.post(`/containers/tool/${endless.body.execution_id}/cancel`)
    expect(cancelled.status).toBe(200)
    const late = await execute({ command: ['sleep', '60'], resource_limits: { timeout_seconds: 1 } })
    expect(late.body.status).toBe('timeout')
  })

  it('goes on with output where its connections break', async () => {
    const run = await execute({ command: sh('echo before; sleep 3; echo behind'), wait: false })
    const path = `/containers/tool/${run.body.execution_id}`
    const read = async () => (await client.get(`${path}/logs`)).text
    await expect.poll(read, { timeout: 20_000, interval: 100 }).toBe('before\n')
    filter.cut()
    await expect.poll(async () => (await client.get(path)).body.status, { timeout: 30_000 }).toBe('completed')
    expect(await read()).toBe('before\nbehind\n')
  })

  it('keeps relics', async () => {
    const web = await client.post('/containers/relic/start', { relic_name: 'web', session_id, image: HTTPD })
    expect(web.status, web.text).toBe(201)
    const path = `/containers/relic/${web.body.relic_id}`
    expect((await client.get(`${path}/health`)).body).toMatchObject({ healthy: true })
    expect((await client.post(`${path}/restart`)).status).toBe(200)
    expect((await client.get(`${path}/logs`)).status).toBe(200)
    expect((await client.post(`${path}/stop`, { timeout_seconds: 1 })).status).toBe(200)
    expect((await client.delete(path)).status).toBe(204)
  })

  it('keeps workers: commands, files, snapshots, stats, logs, pauses', async () => {
    const id = `${session_id}-w`
    await client.startWorker(id, { session_id })
    const path = `/containers/worker/${id}`
    expect(await client.output(id, 'echo hi')).toBe('hi')
    const put = await client.send('PUT', `${path}/files/a/b.txt`, 'content', {
      'content-type': 'application/octet-stream',
    })
    expect(put.status, put.text).toBe(201)
    expect((await client.get(`${path}/files/a/b.txt`)).text).toBe('content')
    expect((await client.get(`${path}/files?path=a`)).status).toBe(200)
    const paused = await client.post(`${path}/pause`)
    expect(paused.status, paused.text).toBe(200)
    expect((await client.post(`${path}/resume`)).status).toBe(200)
    const events = await client.events(`/containers/stats/${id}?follow=true`, { enough: () => true })
    expect(events[0]?.event).toBe('stats')
    expect((await client.get('/containers/stats')).status).toBe(200)
    expect((await client.get(`${path}/logs`)).status).toBe(200)
    expect((await client.get(`${path}/health`)).status).toBe(200)
    const snapshot = await client.post(`${path}/snapshot`, {})
    expect(snapshot.status, snapshot.text).toBeLessThan(300)
    expect((await client.post(`${path}/restart`, { timeout_seconds: 1 })).status).toBe(200)
    expect((await client.delete(path)).status).toBe(204)
  })

  it('tells events, and cleans up', async () => {
    const [first] = await client.events('/events?after=0', { enough: () => true })
    expect(first?.event).toMatch(/^\w+[.]/)
    expect((await client.post('/containers/cleanup/orphans', {})).status).toBe(200)
    // A network that is in use is taken from what uses it.
    const used = newSession('filtered')
    const idle = { relic_name: 'idle', session_id: used, image: TOOLBOX, command: ['sleep', '600'] }
    const relic = await client.post('/containers/relic/start', { ...idle, health_check_endpoint: null })
    expect(relic.status, relic.text).toBe(201)
    const networks = await client.post('/containers/cleanup/all-networks', { force: true })
    expect([networks.status, networks.body.errors], networks.text).toEqual([200, []])
    await client.post('/containers/cleanup/session', { session_id: used, force: true })
    const cleaned = await client.post('/containers/cleanup/session', { session_id, force: true })
    expect([cleaned.status, cleaned.body.errors], cleaned.text).toEqual([200, []])
    expect((await client.get('/health')).body.status).toBe('healthy')
  })

  it('needed all of the list, and nothing beside it', async () => {
    expect(filter.refused).toEqual([])
    expect(filter.passed).toBeGreaterThan(100)
    expect(filter.unused).toEqual([])
  })

  it.each([
    ['POST', '/build?remote=http%3A%2F%2F127.0.0.1%3A1%2FDockerfile'],
    ['POST', '/v1.41/build?t=x&remote='],
    ['POST', '/images/create?fromSrc=http%3A%2F%2F127.0.0.1%3A1%2F'],
    ['POST', `/containers/${'0'.repeat(64)}/update`],
    ['POST', '/containers/some-name/start'],
    ['POST', '/containers/0123456789ab/kill'],
    ['POST', '/containers/prune'],
    ['POST', '/images/prune'],
    ['POST', '/volumes/prune'],
    ['POST', `/networks/${'0'.repeat(64)}/connect`],
    ['GET', `/containers/${'0'.repeat(64)}/export`],
    ['GET', '/secrets'],
    ['POST', '/secrets/create'],
    ['POST', '/plugins/pull?remote=x'],
    ['POST', '/swarm/init'],
    ['POST', '/auth'],
    ['GET', '/images/../containers/json'],
    ['GET', '/system/df'],
    ['DELETE', '/build/prune'],
    ['PUT', '/containers/create'],
    ['GET', '//info'],
    ['GET', '/v1.41/v1.41/info'],
  ])('would have been refused %s %s', async (method, path) => {
    const { status, body } = await askFiltered(method, path)
    expect(status).toBe(403)
    expect(JSON.parse(body)).toEqual({ message: `the filter allows no ${method} ${path}` })
    expect(filter.refused.at(-1)).toBe(`${method} ${path}`)
  })

  it('passes what is allowed to the engine itself', async () => {
    const { status, body } = await askFiltered('GET', '/v1.41/version')
    expect([status, JSON.parse(body).ApiVersion]).toEqual([200, expect.stringMatching(/^1\./)])
    expect((await documentedPaths()).allowed.length).toBeGreaterThan(30)
  })
})
