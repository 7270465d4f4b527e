import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { Client } from '../fixtures/client.ts'
import { HTTPD } from '../fixtures/images.ts'
import { removeAll } from '../fixtures/service.ts'
import {
  buildServiceImage,
  removeServiceImage,
  runServiceImage,
  type ServiceContainer,
} from '../fixtures/service-image.ts'
import { newSession } from '../fixtures/sessions.ts'

const bash = promisify(execFile)
const ROOT = new URL('../..', import.meta.url).pathname

let tag: string
let container: ServiceContainer
let client: Client

beforeAll(async () => {
  tag = await buildServiceImage()
  container = await runServiceImage(tag, { CO_SESSION_SUBNETS: '10.199.0.0/16' })
  client = new Client(container.url)
  await vi.waitFor(async () => expect((await client.get('/livez')).status).toBe(200), {
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
})

describe('the service in its container, with the socket mounted', () => {
  it('passes the quick start', { timeout: 120_000 }, async () => {
    const { stdout } = await bash('bash', ['examples/quickstart.sh'], {
      cwd: ROOT,
      env: { ...process.env, BASE_URL: container.url, SESSION: newSession('image') },
    })
    expect(stdout).toContain('quickstart: all steps passed')
  })

  it('gets relics healthy through the door, although it shares no network with them', async () => {
    const session_id = newSession()
    const { status, body, text } = await client.post('/containers/relic/start', {
      relic_name: 'web',
      session_id,
      image: HTTPD,
    })
    expect(status, text).toBe(201)
    const health = await client.get(`/containers/relic/${body.relic_id}/health`)
    expect(health.body).toMatchObject({ healthy: true })
    const never = await client.post('/containers/relic/start', {
      relic_name: 'closed',
      session_id,
      image: HTTPD,
      port: 9,
      health_check_timeout_seconds: 1,
    })
    expect(never.status).toBe(504)
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })

  it('runs as a user that is not root, and its HEALTHCHECK finds it healthy', async () => {
    const image = await (await DockerEngine.open({ host: 'unix:///var/run/docker.sock' })).images.inspect(tag)
    expect(image?.user).toBe('1000:1000')
    await expect.poll(() => container.health(), { timeout: 40_000, interval: 500 }).toBe('healthy')
  })
})
