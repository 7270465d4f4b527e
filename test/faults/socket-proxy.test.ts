/** The proxy itself, before the machine's engine: what passes must pass whole, and what breaks must break as told. */
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts'
import { leastContainer } from '../fixtures/container-spec.ts'
import { TOOLBOX } from '../fixtures/images.ts'
import { SocketProxy } from '../support/socket-proxy.ts'

let proxy: SocketProxy
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })

beforeEach(async () => {
  proxy = await SocketProxy.open(process.env['DOCKER_HOST'])
})
afterEach(async () => {
  await proxy.close()
})

async function ask(method: string, path: string, body?: Buffer | string, chunked = false): Promise<Buffer> {
  const request = http.request({ method, path, agent, socketPath: proxy.host.slice('unix://'.length) })
  request.setTimeout(500, () => request.destroy(new Error('no answer in time')))
  const answer = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once('response', resolve)
    request.once('error', reject)
  })
  if (body !== undefined && chunked) Readable.from([body, body]).pipe(request)
  else {
    if (body !== undefined) request.setHeader('content-length', Buffer.byteLength(body))
    request.end(body)
  }
  return buffer(await answer)
}

it('passes requests one after another on a connection, and records them', async () => {
  expect((await ask('GET', '/_ping')).toString()).toBe('OK')
  await ask('POST', '/containers/create?name=%20', '{"Image":"none"}')
  await ask('POST', '/containers/create?name=%20', '{"Image":"none"}', true)
  expect((await ask('GET', '/_ping')).toString()).toBe('OK')
  expect(proxy.connections).toBe(1)
  expect(proxy.requests.map(({ method, path, body }) => `${method} ${path} ${body}`)).toEqual([
    'GET /_ping ',
    'POST /containers/create?name=%20 {"Image":"none"}',
    'POST /containers/create?name=%20 {"Image":"none"}{"Image":"none"}',
    'GET /_ping ',
  ])
  expect(proxy.asked('POST', /create/)).toHaveLength(2)
})

it('passes a whole run: attach with stdin, its end, output, wait', async () => {
  const engine = await DockerEngine.open({ host: proxy.host })
  const { images, containers } = engine
  const image = await images.inspect(TOOLBOX)
  const id = await createCat(engine, image?.id ?? '')
  try {
    const attachment = await containers.attach(id, { stdin: true })
    await containers.start(id)
    const sent = Buffer.alloc(3 * 1024 * 1024, 'x')
    attachment.stdin.end(sent)
    let received = 0
    for await (const { bytes } of attachment.output) received += bytes.length
    expect(received).toBe(sent.length)
    await containers.wait(id, AbortSignal.timeout(10_000))
    expect((await containers.inspect(id))?.exitCode).toBe(0)
  } finally {
    await containers.remove(id)
    await engine.close()
  }
})

describe('breaks an answer as told:', () => {
  it('delay', async () => {
    proxy.rule = () => ({ kind: 'delay', milliseconds: 200 })
    const began = performance.now()
    expect((await ask('GET', '/_ping')).toString()).toBe('OK')
    expect(performance.now() - began).toBeGreaterThanOrEqual(195)
  })

  it('cut before the engine hears of it', async () => {
    proxy.rule = () => ({ kind: 'cut' })
    await expect(ask('GET', '/_ping')).rejects.toThrow(/socket hang up|ECONNRESET/)
  })

  it.each([0, 5, 150])('truncation after %s bytes', async (bytes) => {
    proxy.rule = () => ({ kind: 'truncate', bytes })
    await expect(ask('GET', '/version')).rejects.toThrow(/socket hang up|aborted|ECONNRESET/)
  })

  it('a stall in the middle of the body', async () => {
    proxy.rule = ({ path }) => (path === '/version' ? { kind: 'stall', bytes: 300 } : undefined)
    await expect(ask('GET', '/version')).rejects.toThrow(/in time|aborted/)
    expect((await ask('GET', '/_ping')).toString()).toBe('OK')
  })

  it('garbage that no JSON allows', async () => {
    const whole = await ask('GET', '/version')
    proxy.rule = () => ({ kind: 'garble', from: 400, bytes: 3 })
    const broken = await ask('GET', '/version')
    expect(broken).toHaveLength(whole.length)
    expect(() => JSON.parse(broken.toString())).toThrow()
  })
})

it('cuts all connections, and refuses new ones until it is told otherwise', async () => {
  const events = ask('GET', '/events')
  events.catch(() => {})
  await sleep(50)
  proxy.cut()
  await expect(events).rejects.toThrow()
  await proxy.refuse()
  await expect(ask('GET', '/_ping')).rejects.toThrow(/ENOENT|ECONNREFUSED/)
  await proxy.accept()
  expect((await ask('GET', '/_ping')).toString()).toBe('OK')
})

/** A container without an owner that copies stdin to stdout. */
async function createCat(engine: DockerEngine, imageId: string): Promise<string> {
  return engine.containers.create(
    leastContainer({
      name: `co-proxy-${randomUUID().slice(0, 8)}`,
      imageId,
      command: ['cat'],
      openStdin: true,
    }),
  )
}
