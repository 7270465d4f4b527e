/** The proxy over HTTP as callers see it. The engine is in memory, and the door of its relics leads to a server here. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import type { Duplex, Writable } from 'node:stream'
import { text as textOf } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Caller } from '../../../src/domain/caller.ts'
import { Door } from '../../../src/managers/door.ts'
import { RelicProxy } from '../../../src/managers/relic-proxy.ts'
import { type MemoryService, startMemoryService } from '../../fixtures/memory-service.ts'
import { RawConnection } from '../../fixtures/raw-http.ts'

const caller = (owner: string): Caller => ({
  owner,
  keyId: owner,
  role: 'agent',
  scopes: new Set(['relic'] as const),
  reach: 'own',
  limits: {},
})
const CALLERS: Record<string, Caller> = {
  anna: caller('anna'),
  bert: caller('bert'),
  hasty: { ...caller('anna'), keyId: 'hasty', limits: { requestsPerMinute: 2 } },
}

let service: MemoryService
let relicId: string
let relic: Server
let handle: (request: IncomingMessage, response: ServerResponse) => void
const dialed: Socket[] = []
const lines: { method: string; decision: string; status: number | null }[] = []
const STREAMS = 3

beforeAll(async () => {
  relic = createServer((given, response) => handle(given, response)).listen(0, '127.0.0.1')
  await once(relic, 'listening')
  vi.spyOn(Door.prototype, 'dial').mockImplementation(async (_target, signal) => {
    const socket = connect({ host: '127.0.0.1', port: (relic.address() as AddressInfo).port, signal })
    dialed.push(socket)
    return socket
  })
  service = await startMemoryService({
    keys: { authenticate: async (bearer) => CALLERS[bearer] },
    auditLog: {
      append: async ({ method, decision, status }) => {
        lines.push({ method, decision, status })
      },
    },
    httpLimits: { maxStreams: STREAMS },
  })
  relicId = await startRelic('web')
})
afterAll(async () => {
  await service[Symbol.asyncDispose]()
  relic.closeAllConnections()
  relic.close()
  vi.restoreAllMocks()
})
beforeEach(() => {
  handle = echo
  dialed.length = 0
  lines.length = 0
})
afterEach(() => {
  relic.removeAllListeners('upgrade')
})

async function startRelic(relic_name: string): Promise<string> {
  const { status, body } = await service.call(
    'POST',
    '/containers/relic/start',
    {
      relic_name,
      session_id: 'annas',
      image: 'container-orchestrator/toolbox:1',
      command: ['sleep', '600'],
      health_check_endpoint: null,
    },
    { authorization: 'Bearer anna' },
  )
  expect(status).toBe(201)
  return body.relic_id
}

/** Answers what it was sent. */
function echo(given: IncomingMessage, response: ServerResponse): void {
  void textOf(given).then((body) =>
    response.end(JSON.stringify({ method: given.method, url: given.url, headers: given.headers, body })),
  )
}

interface Asked {
  key?: string
  method?: string
  headers?: Record<string, string | string[]>
  body?: string
  id?: string
}

/** A call as bytes say it: Node's client changes nothing of the path. */
function ask(path: string, { key = 'anna', method = 'GET', headers = {}, body, id = relicId }: Asked = {}) {
  const asked = request({
    host: '127.0.0.1',
    port: service.port,
    method,
    path: `/containers/relic/${id}/proxy${path}`,
    headers: { authorization: `Bearer ${key}`, ...headers },
    agent: false,
  })
  asked.end(body)
  const answer = new Promise<IncomingMessage>((resolve, reject) => {
    asked.once('response', resolve)
    asked.once('error', reject)
  })
  return Object.assign(asked, { answer })
}

async function told(path: string, options: Asked = {}) {
  const answer = await ask(path, options).answer
  const text = await textOf(answer)
  return { status: answer.statusCode, headers: answer.headers, text, json: () => JSON.parse(text) }
}

describe('a call to a relic', () => {
  it.each(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])('may be a %s, with a body', async (method) => {
    const headers = { 'content-type': 'text/odd; charset=x', 'content-encoding': 'gzip', 'content-length': '4' }
    const { status, json } = await told('/a', { method, headers, body: 'body' })
    expect(status).toBe(200)
    expect(json()).toMatchObject({ method, url: '/a', body: 'body', headers })
    const chunked = await told('/a', { method, headers: { 'transfer-encoding': 'chunked' }, body: 'chunks' })
    expect(chunked.json()).toMatchObject({ method, body: 'chunks', headers: { 'transfer-encoding': 'chunked' } })
    const bare = await told('/a', { method })
    expect(bare.json()).toMatchObject({ method, body: '' })
  })

  it('may be a HEAD, which tells the length of what there is', async () => {
    handle = (_request, response) => response.setHeader('content-length', 1234).end()
    const { status, headers, text } = await told('/', { method: 'HEAD' })
    expect([status, headers['content-length'], text]).toEqual([200, '1234', ''])
  })

  it.each([
    ['', '/'],
    ['/', '/'],
    ['?q', '/?q'],
    ['/?', '/?'],
    ['/a/', '/a/'],
    ['//a//b', '//a//b'],
    ['/%2F..%2F..%2f%2e%2e/x', '/%2F..%2F..%2f%2e%2e/x'],
    ['/../../../../livez', '/../../../../livez'],
    ['/@127.0.0.1:8086/http://host:1/', '/@127.0.0.1:8086/http://host:1/'],
    ['/a?x=%20&x=2&&y=a+b;c=%2f?/proxy/', '/a?x=%20&x=2&&y=a+b;c=%2f?/proxy/'],
    ['/%C3%A9%25', '/%C3%A9%25'],
  ])('goes to the path that was written: %s', async (written, arrived) => {
    const { status, json } = await told(written)
    expect(status).toBe(200)
    expect(json().url).toBe(arrived)
  })

  it('goes to a path of up to 8 KiB', async () => {
    const long = `/${'long/'.repeat(1_500)}`
    expect((await told(long)).json().url).toBe(long)
    expect((await told(long + long)).status).toBe(400)
  })

  it('is refused with a fragment, and with what no path is', async () => {
    for (const line of [
      `GET /containers/relic/${relicId}/proxy/a#b`,
      `GET /containers/relic/${relicId}/proxy/%zz`,
      `GET http://127.0.0.1:1/containers/relic/${relicId}/proxy/`,
    ]) {
      using connection = await RawConnection.open(service.port)
      connection.write(`${line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer anna\r\nConnection: close\r\n\r\n`)
      await connection.closed()
      expect([line, connection.answer.status, connection.answer.body.code]).toEqual([line, 400, 'validation_failed'])
    }
    expect(dialed).toEqual([])
  })

  it('tells headers byte by byte, whatever they are written in', async () => {
    const headers = { 'x-odd': '\xe9', 'transfer-encoding': 'chunked' }
    expect((await told('/', { method: 'POST', headers, body: '1' })).json().headers['x-odd']).toBe('\xe9')
    expect((await told('/', { headers: { 'x-odd': '\xe9' } })).json().headers['x-odd']).toBe('\xe9')
  })

  it('tells the relic who asks, and not by which key', async () => {
    const { json } = await told('/', {
      headers: { 'x-relic-authorization': 'Basic YTpi', 'x-forwarded-for': '10.9.9.9', 'x-request-id': 'mine' },
    })
    const { headers } = json()
    expect(headers).toMatchObject({
      host: 'web:8000',
      authorization: 'Basic YTpi',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-host': `127.0.0.1:${service.port}`,
      'x-forwarded-proto': 'http',
      'x-forwarded-prefix': `/containers/relic/${relicId}/proxy`,
      'x-request-id': 'mine',
    })
    expect(JSON.stringify(headers)).not.toContain('anna')
  })

  it('is answered with what the relic answers, and not with what is for all of this service', async () => {
    handle = (_request, response) => {
      response.writeHead(404, 'Gone Fishing', [
        ...['Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'Content-Type', 'text/html', 'X-Frame-Options', 'ALLOWALL'],
        ...['Access-Control-Allow-Origin', '*', 'Strict-Transport-Security', 'max-age=9', 'X-Request-Id', 'theirs'],
        ...['Content-Security-Policy', "default-src 'self'"],
      ])
      response.end('<p>')
    }
    const answer = await ask('/').answer
    expect([answer.statusCode, answer.statusMessage]).toEqual([404, 'Gone Fishing'])
    expect(answer.headers).toMatchObject({
      'set-cookie': ['a=1', 'b=2'],
      'content-type': 'text/html',
      'content-security-policy': "default-src 'self', sandbox",
      'x-frame-options': 'SAMEORIGIN',
      'x-ratelimit-limit': expect.any(String),
      via: '1.1 container-orchestrator',
    })
    expect(answer.headers['x-request-id']).not.toBe('theirs')
    expect(answer.headers).not.toHaveProperty('access-control-allow-origin')
    expect(answer.headers).not.toHaveProperty('strict-transport-security')
    answer.resume()
  })

  it('passes redirects on', async () => {
    handle = (_request, response) => response.writeHead(307, { location: 'http://127.0.0.1:1/next' }).end()
    const { status, headers } = await told('/')
    expect([status, headers.location]).toEqual([307, 'http://127.0.0.1:1/next'])
    expect(dialed.length).toBe(1)
  })

  it('streams both ways at once, and its head comes before its body', async () => {
    handle = (given, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.flushHeaders()
      given.pipe(response)
    }
    const asked = request({
      host: '127.0.0.1',
      port: service.port,
      method: 'POST',
      path: `/containers/relic/${relicId}/proxy/`,
      headers: { authorization: 'Bearer anna', 'transfer-encoding': 'chunked' },
    })
    asked.flushHeaders()
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    for (const part of ['one', 'two']) {
      asked.write(part)
      const [got] = await once(answer, 'data')
      expect(String(got)).toBe(part)
    }
    asked.end()
    await once(answer, 'end')
  })

  it('is in the audit log, as any that may change something', async () => {
    await told('/x', { method: 'POST', body: '1' })
    await expect
      .poll(() => lines)
      .toEqual([
        { method: 'POST', decision: 'allow', status: null },
        { method: 'POST', decision: 'allow', status: 200 },
      ])
  })
})

describe('whoever may not', () => {
  it("is told that there is no such relic where it is another's", async () => {
    const foreign = await told('/', { key: 'bert' })
    const absent = await told('/', { key: 'bert', id: 'relic_01aaaaaaaaaaaaaaaaaaaaaaaa' })
    expect([foreign.status, absent.status]).toEqual([404, 404])
    expect(foreign.json().detail.replace(relicId, 'ID')).toBe(
      absent.json().detail.replace('relic_01aaaaaaaaaaaaaaaaaaaaaaaa', 'ID'),
    )
    expect((await told('/', { key: 'nobody' })).status).toBe(401)
    expect(dialed).toEqual([])
  })

  it('is told so when it asks for a WebSocket, too', async () => {
    expect((await shake({ key: 'nobody' })).head).toMatch(/^HTTP\/1\.1 401 [\s\S]*connection: close/i)
    expect((await shake({ key: 'bert' })).head).toMatch(/^HTTP\/1\.1 404 /)
    expect((await shake({ headers: ['Origin: http://elsewhere.example'] })).head).toMatch(/^HTTP\/1\.1 403 /)
    expect((await shake({ host: 'rebound.example' })).head).toMatch(/^HTTP\/1\.1 403 /)
    expect(dialed).toEqual([])
    relic.on('upgrade', accept)
    const heads = []
    for (let call = 0; call < 3; call++) {
      const { head, socket } = await shake({ key: 'hasty' })
      heads.push(head.slice(9, 12))
      socket.destroy()
    }
    expect(heads).toEqual(['101', '101', '429'])
  })
})

describe('a relic', () => {
  it('that refuses connections is a 502', async () => {
    vi.mocked(Door.prototype.dial).mockImplementationOnce(async () => connect({ host: '127.0.0.1', port: 1 }))
    const { status, json } = await told('/', { method: 'POST', body: 'x'.repeat(1_000_000) })
    expect([status, json().code]).toEqual([502, 'relic_unreachable'])
  })

  it.each([
    ['ends without an answer', (socket: Socket) => socket.destroy()],
    ['speaks another language', (socket: Socket) => socket.end('220 smtp ready\r\n')],
    ['answers a status that there is not', (socket: Socket) => socket.end('HTTP/1.1 999 No\r\n\r\n')],
    [
      'changes its protocol',
      (socket: Socket) => socket.write('HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n'),
    ],
  ])('that %s is a 502', async (_name, act) => {
    handle = (given) => act(given.socket)
    const { status, json } = await told('/')
    expect([status, json().code]).toEqual([502, 'relic_unreachable'])
    await expect.poll(() => dialed[0]?.destroyed).toBe(true)
  })

  it('may say odd things in the first line of its answer', async () => {
    handle = ({ socket }) => socket.end(Buffer.from('HTTP/1.1 200 o\x01\x7f\xe9k\r\nX-Odd: \xe9\r\n\r\nbody', 'latin1'))
    const { status, headers, text } = await told('/')
    expect([status, headers['x-odd'], text]).toEqual([200, '\xe9', 'body'])
  })

  it('that is not read waits, and so does whoever it does not read', async () => {
    const part = Buffer.alloc(64 * 1024)
    const fill = async (stream: Writable) => {
      let bytes = 0
      stream.on('error', () => {})
      while (stream.write(part) || (await Promise.race([once(stream, 'drain'), sleep(300)])) !== undefined) {
        bytes += part.length
        if (bytes > 64 * 1024 ** 2) break
      }
      return bytes
    }
    let written: Promise<number> | undefined
    handle = (_request, response) => {
      written = fill(response)
    }
    const answer = await ask('/').answer
    expect(await written).toBeLessThan(32 * 1024 ** 2)
    answer.destroy()
    let far: Socket | undefined
    handle = (given) => {
      far = given.socket
      given.pause()
    }
    const asked = request({
      host: '127.0.0.1',
      port: service.port,
      method: 'POST',
      path: `/containers/relic/${relicId}/proxy/`,
      headers: { authorization: 'Bearer anna', 'transfer-encoding': 'chunked' },
    })
    expect(await fill(asked)).toBeLessThan(32 * 1024 ** 2)
    asked.destroy()
    // Whoever is not read is not heard leaving.
    far?.destroy()
    await expect.poll(() => dialed.every((socket) => socket.destroyed)).toBe(true)
  })

  it('that dies in an answer breaks it off', async () => {
    handle = (given, response) => {
      response.writeHead(200, { 'content-length': 100 })
      response.write('half')
      setTimeout(() => given.socket.destroy(), 20)
    }
    const answer = await ask('/').answer
    await expect(textOf(answer)).rejects.toThrow()
  })

  it('that answers before it took the body is heard', async () => {
    handle = (_request, response) => response.writeHead(413, { connection: 'close' }).end('too much')
    const asked = ask('/', { method: 'POST', headers: { 'transfer-encoding': 'chunked' } })
    const answer = await asked.answer
    expect([answer.statusCode, await textOf(answer)]).toEqual([413, 'too much'])
  })

  it('that was stopped takes no calls: 409, and those under way end', async () => {
    const id = await startRelic('other')
    handle = () => {}
    const waiting = told('/', { id })
    await expect.poll(() => dialed.length).toBe(1)
    expect(service.services.relics.isUsedIn('annas')).toBe(true)
    await service.call('POST', `/containers/relic/${id}/stop`, { timeout_seconds: 1 }, { authorization: 'Bearer anna' })
    expect((await waiting).status).toBe(502)
    const { status, json } = await told('/', { id })
    expect([status, json().code]).toEqual([409, 'conflict'])
    expect((await shake({ id })).head).toMatch(/^HTTP\/1\.1 409 /)
    expect(dialed.length).toBe(1)
    await expect.poll(() => service.services.relics.isUsedIn('annas')).toBe(false)
  })

  it('is left when its caller leaves', async () => {
    let isLeft = false
    handle = (given, response) => {
      response.write('first')
      given.socket.once('close', () => {
        isLeft = true
      })
    }
    const asked = ask('/')
    const answer = await asked.answer
    answer.on('error', () => {})
    asked.destroy()
    await expect.poll(() => isLeft).toBe(true)
    await expect.poll(() => service.services.relics.isUsedIn('annas')).toBe(false)
  })

  it('that is silent for too long, or does not take a connection, is a 504', async () => {
    handle = () => {}
    const place = { target: {} as never, host: 'web:8000' }
    const relics = { visit: async () => place }
    const visitor = { address: '', host: '', protocol: 'http', prefix: '', requestId: '' }
    const call = { method: 'GET', path: '/', headers: [], body: undefined, isUpgrade: false, visitor }
    const send = (door: Pick<Door, 'dial'>) =>
      new RelicProxy({
        door: door as Door,
        relics,
        forwarder: { track: () => {} },
        idleMs: 50,
        connectMs: 50,
      }).send('relic', call, new AbortController().signal)
    await expect(send(Door.prototype)).rejects.toMatchObject({ code: 'relic_timeout', message: /Nothing came/ })
    expect(dialed[0]?.destroyed).toBe(true)
    const never: Pick<Door, 'dial'> = {
      dial: (_target, signal) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    }
    await expect(send(never)).rejects.toMatchObject({ code: 'relic_timeout', message: /did not take/ })
  })
})

interface Handshake {
  key?: string
  id?: string
  host?: string
  headers?: string[]
  rest?: string
}

/** Asks for a WebSocket as bytes, and answers with the head of what comes back. */
async function shake({ key = 'anna', id = relicId, host = 'localhost', headers = [], rest = '' }: Handshake = {}) {
  const connection = await RawConnection.open(service.port)
  const lines = [
    `GET /containers/relic/${id}/proxy/ws?a=1 HTTP/1.1`,
    `Host: ${host}`,
    `Authorization: Bearer ${key}`,
    'Connection: keep-alive, Upgrade',
    'Upgrade: WebSocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
    ...headers,
  ]
  connection.write(`${lines.join('\r\n')}\r\n\r\n${rest}`)
  await expect.poll(() => connection.received).toContain('\r\n\r\n')
  return { connection, head: connection.received.split('\r\n\r\n')[0] ?? '', socket: connection.socket }
}

const upgraded: { url: string | undefined; headers: IncomingMessage['headers']; socket: Duplex }[] = []

/** Takes a WebSocket, and sends back what comes. */
function accept({ url, headers }: IncomingMessage, socket: Duplex, head: Buffer): void {
  upgraded.push({ url, headers, socket })
  const key = createHash('sha1')
    .update(`${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64')
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${key}\r\nX-Extra: 1\r\n\r\nhello `,
  )
  socket.on('error', () => {})
  socket.write(head)
  socket.pipe(socket)
}

describe('a WebSocket', () => {
  beforeEach(() => {
    upgraded.length = 0
    relic.on('upgrade', accept)
  })

  it('passes bytes both ways, also those that came with the heads', async () => {
    const { connection, head, socket } = await shake({ rest: 'early ' })
    expect(head).toMatch(/^HTTP\/1\.1 101 Switching Protocols\r\n/)
    expect(head).toMatch(/\r\nSec-WebSocket-Accept: ICX\+Yqv66kxgM0FcWaLWlFLwTAI=/)
    expect(head).toMatch(/\r\nX-Extra: 1/)
    expect(head).toMatch(/\r\nx-request-id: /)
    expect(upgraded[0]).toMatchObject({ url: '/ws?a=1', headers: { host: 'web:8000', upgrade: 'websocket' } })
    expect(upgraded[0]?.headers).not.toHaveProperty('authorization')
    socket.write('late')
    await expect.poll(() => connection.received.slice(head.length + 4)).toBe('hello early late')
    expect(service.services.relics.isUsedIn('annas')).toBe(true)
    upgraded[0]?.socket.end()
    await connection.closed()
    await expect.poll(() => service.services.relics.isUsedIn('annas')).toBe(false)
  })

  it('is in the audit log, as a call that may change something', async () => {
    const { socket } = await shake()
    expect(lines).toEqual([{ method: 'GET', decision: 'allow', status: null }])
    socket.destroy()
  })

  it('ends at the relic when its caller leaves', async () => {
    const { socket } = await shake()
    const far = upgraded[0]?.socket
    socket.destroy()
    await expect.poll(() => far?.destroyed).toBe(true)
  })

  it('that the relic refuses is answered as the relic does', async () => {
    relic.removeAllListeners('upgrade')
    handle = (_request, response) => response.writeHead(426, { 'x-why': 'because' }).end('no')
    const { connection, head } = await shake()
    expect(head).toMatch(/^HTTP\/1\.1 426 [\s\S]*x-why: because/)
    await connection.closed()
    expect(connection.received.endsWith('no') || connection.received.includes('\r\nno\r\n')).toBe(true)
  })

  it('counts as a stream of its caller', async () => {
    const open = []
    for (let count = 0; count < STREAMS; count++) open.push(await shake())
    const refused = await shake()
    expect(refused.head).toMatch(/^HTTP\/1\.1 429 /)
    await refused.connection.closed()
    for (const { socket } of open) socket.destroy()
    await expect.poll(() => upgraded.every(({ socket }) => socket.destroyed)).toBe(true)
    const { head, socket } = await shake()
    expect(head).toMatch(/^HTTP\/1\.1 101 /)
    socket.destroy()
  })

  it('is asked for in vain elsewhere, and over other protocols', async () => {
    for (const [path, protocol] of [
      ['/livez', 'websocket'],
      ['/livez', 'h2c'],
    ]) {
      using connection = await RawConnection.open(service.port)
      connection.write(
        `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: ${protocol}\r\n\r\n`,
      )
      await connection.closed()
      expect([protocol, connection.answer.status]).toEqual([protocol, 200])
    }
  })

  it('behind a request that is not answered ends the connection, and nothing else', async () => {
    handle = () => {}
    using connection = await RawConnection.open(service.port)
    const path = `/containers/relic/${relicId}/proxy/`
    const common = 'Host: localhost\r\nAuthorization: Bearer anna\r\n'
    connection.write(
      `GET ${path} HTTP/1.1\r\n${common}\r\nGET ${path} HTTP/1.1\r\n${common}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    )
    await connection.closed()
    expect(connection.received).toBe('')
    expect((await service.call('GET', '/livez')).status).toBe(200)
  })
})
