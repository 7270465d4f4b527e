import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Client } from '../fixtures/client.ts'
import { NODE, TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

/** Sends back what comes, over HTTP and over WebSockets (short texts), and counts who left before the end. */
const RELIC = `
const { createServer } = require('node:http')
const { createHash } = require('node:crypto')
let left = 0
const server = createServer((request, response) => {
  if (request.url === '/left') return response.end(String(left))
  response.writeHead(200, { 'x-url': request.url, 'x-headers': JSON.stringify(request.headers) })
  if (request.url !== '/open') return request.pipe(response)
  response.write('open')
  response.on('close', () => left++)
})
server.on('upgrade', (request, socket) => {
  const key = createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11')
  socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n' +
    'Sec-WebSocket-Accept: ' + key.digest('base64') + '\\r\\n\\r\\n')
  socket.on('error', () => {})
  socket.on('close', () => left++)
  socket.on('data', (frame) => {
    const text = frame.subarray(6).map((byte, index) => byte ^ frame[2 + (index % 4)])
    socket.write(Buffer.concat([Buffer.from([frame[0], text.length]), text]))
    if ((frame[0] & 15) === 8 || text.equals(Buffer.from('leave'))) socket.end()
  })
})
server.listen(8000)
`

const MEGABYTE = 1024 * 1024
let service: TestService
let client: Client
let proxied: string
let containerId: string
const session_id = newSession('proxy')

beforeAll(async () => {
  service = await startService()
  client = new Client(service.url)
  const { body, status } = await client.post('/containers/relic/start', {
    relic_name: 'echo',
    session_id,
    image: NODE,
    command: ['node', '-e', RELIC],
    health_check_endpoint: '/',
  })
  expect(status).toBe(201)
  containerId = body.container_id
  proxied = `${service.url}/containers/relic/${body.relic_id}/proxy`
})
afterAll(() => service.destroy())

/** Processes of the door in the relic. */
async function connectionsInside(): Promise<string[]> {
  const command = ['/.toolbox/busybox', 'ps']
  const exec = await service.engine.containers.exec(containerId, { command, stdin: false })
  let text = ''
  for await (const { bytes } of exec.output) text += bytes.toString()
  expect(text).toContain('node')
  return text.split('\n').filter((line) => line.includes(' nc '))
}

const left = async () => Number(await (await fetch(`${proxied}/left`)).text())

describe('the proxy to a relic', () => {
  it('passes path, query and headers as they are', async () => {
    const asked = request(`${service.url}/`, {
      path: `${new URL(proxied).pathname}/%2F..%2F/a%20b?q=%2F&&x`,
      headers: { 'x-relic-authorization': 'Bearer theirs', authorization: 'Bearer ours' },
    })
    asked.end()
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    answer.resume()
    expect([answer.statusCode, answer.headers['x-url']]).toEqual([200, '/%2F..%2F/a%20b?q=%2F&&x'])
    expect(JSON.parse(String(answer.headers['x-headers']))).toMatchObject({
      host: 'echo:8000',
      authorization: 'Bearer theirs',
      'x-forwarded-host': new URL(service.url).host,
    })
  })

  it('streams 20 MB there and back', async () => {
    const [sent, received] = [createHash('sha256'), createHash('sha256')]
    const asked = request(`${proxied}/echo`, { method: 'POST', headers: { 'content-type': 'application/x-any' } })
    const upload = pipeline(
      Readable.from(
        (function* () {
          for (let part = 0; part < 20; part++) {
            const bytes = randomBytes(MEGABYTE)
            sent.update(bytes)
            yield bytes
          }
        })(),
      ),
      asked,
    )
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    let bytes = 0
    for await (const part of answer as AsyncIterable<Buffer>) {
      bytes += part.length
      received.update(part)
    }
    await upload
    expect([bytes, received.digest('hex')]).toEqual([20 * MEGABYTE, sent.digest('hex')])
  })

  it('carries a WebSocket, which either side may close', async () => {
    const before = await left()
    const socket = new WebSocket(`${proxied.replace('http', 'ws')}/ws`)
    await once(socket, 'open')
    for (const text of ['one', 'two']) {
      socket.send(text)
      const [{ data }] = (await once(socket, 'message')) as [MessageEvent]
      expect(data).toBe(text)
    }
    socket.close(1000)
    const [{ code }] = (await once(socket, 'close')) as [CloseEvent]
    expect(code).toBe(1000)
    await expect.poll(left).toBe(before + 1)
    const other = new WebSocket(`${proxied.replace('http', 'ws')}/ws`)
    await once(other, 'open')
    other.send('leave')
    await once(other, 'close')
  })

  it('leaves the relic when its caller leaves, and no process in it', async () => {
    const before = await left()
    const asked = request(`${proxied}/open`)
    asked.end()
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    answer.on('error', () => {})
    await once(answer, 'data')
    expect(service.services.relics.isUsedIn(session_id)).toBe(true)
    asked.destroy()
    await expect.poll(left).toBe(before + 1)
    await expect.poll(() => service.services.relics.isUsedIn(session_id)).toBe(false)
    await expect.poll(connectionsInside).toEqual([])
  })

  it('tells of a port that nobody serves, and of a relic that was stopped', async () => {
    const { body } = await client.post('/containers/relic/start', {
      relic_name: 'mute',
      session_id,
      image: TOOLBOX,
      command: ['sleep', '600'],
      health_check_endpoint: null,
    })
    const path = `/containers/relic/${body.relic_id}/proxy/`
    const closed = await client.post(path, { some: 'body' })
    expect([closed.status, closed.body.code]).toEqual([502, 'relic_unreachable'])
    await client.post(`/containers/relic/${body.relic_id}/stop`, { timeout_seconds: 0 })
    const stopped = await client.get(path)
    expect([stopped.status, stopped.body.code]).toEqual([409, 'conflict'])
  })
})
