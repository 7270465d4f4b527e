import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Door, type DoorTarget } from '../../src/managers/door.ts'
import { HealthPoller } from '../../src/managers/health-poller.ts'
import { Client } from '../fixtures/client.ts'
import { DEBIAN, HTTPD } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

let service: TestService
let direct: DoorTarget
const session_id = newSession('door')

beforeAll(async () => {
  service = await startService()
  const client = new Client(service.url)
  const { body } = await client.post('/containers/relic/start', { relic_name: 'web', session_id, image: HTTPD })
  const endpoint = (await service.engine.containers.inspect(body.container_id))?.networks[0]
  direct = {
    containerId: body.container_id,
    networkId: endpoint?.networkId ?? '',
    address: endpoint?.address ?? '',
    gateway: endpoint?.gateway ?? '',
    port: 8000,
  }
})
afterAll(() => service.destroy())

/** The same port, as a process sees it that shares no network with the engine. */
const throughExec = (): DoorTarget => ({ ...direct, networkId: 'f'.repeat(64) })

describe('the door into a container', () => {
  it.each([
    ['its address', () => direct],
    ['an exec of the toolbox', throughExec],
  ])('carries bytes both ways through %s', async (_, target) => {
    const connection = await new Door(service.engine).dial(target(), AbortSignal.timeout(10_000))
    connection.write('GET /health HTTP/1.0\r\n\r\n')
    let answer = ''
    for await (const part of connection) answer += String(part)
    expect(answer).toMatch(/^HTTP\/1\.[01] 200/)
    expect(answer.trimEnd().endsWith('ok')).toBe(true)
  })

  it.each([
    ['its address', () => direct],
    ['an exec of the toolbox', throughExec],
  ])('tells health through %s, of a port that is served and of one that is not', async (_, target) => {
    const poller = new HealthPoller(new Door(service.engine))
    expect(await poller.probe(target(), '/health')).toMatchObject({ healthy: true, status_code: 200, error: null })
    expect(await poller.probe(target(), '/absent')).toMatchObject({ healthy: false, status_code: 404 })
    expect(await poller.probe({ ...target(), port: 9 }, '/health')).toMatchObject({ healthy: false, status_code: null })
  })

  it('leaves no process behind in the container', async () => {
    const poller = new HealthPoller(new Door(service.engine))
    for (let probe = 0; probe < 5; probe++) await poller.probe(throughExec(), '/health')
    const count = async () => {
      const exec = await service.engine.containers.exec(direct.containerId, { command: ['ps'], stdin: false })
      let text = ''
      for await (const { bytes } of exec.output) text += bytes.toString()
      return text.split('\n').filter((line) => line.includes(' nc ')).length
    }
    await expect.poll(count, { timeout: 15_000, interval: 500 }).toBe(0)
  })

  it('gives up on a server that accepts and never answers', async () => {
    const client = new Client(service.url)
    const began = Date.now()
    const mute = 'import socket, time; s = socket.socket(); s.bind(("", 8000)); s.listen(); time.sleep(600)'
    const answer = await client.post('/containers/relic/start', {
      relic_name: `mute-${randomUUID().slice(0, 4)}`,
      session_id,
      image: DEBIAN,
      command: ['python3', '-c', mute],
      health_check_timeout_seconds: 3,
    })
    expect(answer.body.detail).toContain('did not answer within 2 seconds')
    expect(answer.status).toBe(504)
    expect(Date.now() - began).toBeLessThan(20_000)
  })
})
