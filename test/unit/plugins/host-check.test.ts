import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type MemoryService, startMemoryService } from '../../fixtures/memory-service.ts'
import { rawRequest, sendRaw } from '../../fixtures/raw-http.ts'

let service: MemoryService

beforeAll(async () => {
  service = await startMemoryService({ allowedHosts: ['api.example.org'] })
})
afterAll(() => service[Symbol.asyncDispose]())

const ask = (headers: string[], line = 'GET /livez', body = '') =>
  sendRaw(service.port, rawRequest(line, headers, body))
const status = async (...headers: string[]) => (await ask(headers)).status

describe('the Host of a request', () => {
  it.each([
    '127.0.0.1',
    '127.0.0.1:8086',
    '10.1.2.3:80',
    '[::1]',
    '[::1]:8086',
    '[2001:DB8::1]:443',
    '[::ffff:127.0.0.1]:8086',
    'localhost',
    'localhost:8086',
    'LocalHost:8086',
    'localhost.',
    'orchestrator:8086',
    'my_container-1:8086',
    'api.example.org',
    'API.Example.ORG:8443',
    'api.example.org.:443',
  ])('may be %s', async (host) => expect(await status(`Host: ${host}`)).toBe(200))

  it.each([
    'evil.example',
    'evil.example:8086',
    'evil.example.',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '127.1',
    '127.0.0.1.nip.io',
    'example.org',
    'x.api.example.org',
    'api.example.org.evil.example',
    'LOCALHOST.EVIL.EXAMPLE',
  ])('is refused where it is %s', async (host) => {
    const { status, body } = await ask([`Host: ${host}`])
    expect([status, body.code]).toEqual([403, 'forbidden'])
    expect(body.hint).toContain('CO_ALLOWED_HOSTS')
  })

  it.each([
    '',
    ' ',
    ':8086',
    'localhost:',
    'localhost:99999',
    'localhost:8086:1',
    'localhost:80a',
    'localhost@evil.example',
    'user:pass@localhost',
    'localhost/evil',
    'localhost,evil.example',
    'localhost evil.example',
    'evil.example#localhost',
    'local%68ost',
    'localhost\\evil.example',
    '[::1',
    '::1',
    '[fe80::1%eth0]',
    '[localhost]',
    '[::1]evil.example',
    'localhost..',
    '.localhost',
    '-localhost',
    `${'a'.repeat(64)}`,
    `${'a.'.repeat(127)}aa`,
  ])('is no host where it is "%s"', async (host) => {
    const { status, body } = await ask([`Host: ${host}`])
    expect([status, body.code]).toEqual([400, 'validation_failed'])
  })

  it('is there, and once', async () => {
    for (const headers of [[], ['Host: localhost', 'Host: localhost'], ['Host: localhost', 'hOST: evil.example']]) {
      const { status, body, head } = await ask(headers)
      expect([status, body.code], headers.join()).toEqual([400, 'validation_failed'])
      expect(head).toMatch(/x-request-id: /i)
    }
    expect((await sendRaw(service.port, 'GET /livez HTTP/1.0\r\n\r\n')).status).toBe(400)
  })

  it('is what counts, whatever else names a host', async () => {
    expect(await status('Host: evil.example', 'X-Forwarded-Host: localhost', 'Forwarded: host=localhost')).toBe(403)
    for (const target of [
      'http://evil.example/livez',
      'http://localhost/livez',
      '//evil.example/livez',
      'evil.example:80',
    ])
      expect((await ask(['Host: localhost'], `GET ${target}`)).status, target).toBeGreaterThanOrEqual(400)
  })

  it('counts on every route, also where there is none', async () => {
    const routes = [
      '/',
      '/docs',
      '/docs/',
      '/openapi.json',
      '/openapi.yaml',
      '/metrics',
      '/health',
      '/readyz',
      '/nothing',
    ]
    for (const path of routes) expect((await ask(['Host: evil.example'], `GET ${path}`)).status, path).toBe(403)
    for (const path of ['/docs', '/openapi.json', '/metrics'])
      expect((await ask(['Host: localhost'], `GET ${path}`)).status, path).toBeLessThan(400)
    const post = ['Host: evil.example', 'Content-Type: application/json']
    expect((await ask(post, 'POST /containers/cleanup/orphans', '{}')).status).toBe(403)
  })

  it('may be any where the operator says so', async () => {
    await using open = await startMemoryService({ allowedHosts: ['*'] })
    const answer = await sendRaw(open.port, rawRequest('GET /livez', ['Host: any.name.example']))
    expect(answer.status).toBe(200)
    expect((await sendRaw(open.port, rawRequest('GET /livez', ['Host: a@b']))).status).toBe(400)
  })
})

describe('the page that a request comes from', () => {
  const from = (host: string, ...headers: string[]) => status(`Host: ${host}`, ...headers)

  it.each([
    ['localhost:8086', 'http://localhost:8086'],
    ['LOCALHOST:8086', 'http://LocalHost:8086'],
    ['localhost', 'http://localhost'],
    ['localhost:80', 'http://localhost'],
    ['localhost', 'http://localhost:80'],
    ['api.example.org', 'https://api.example.org'],
    ['api.example.org:443', 'https://api.example.org'],
    ['[::1]:8086', 'http://[::1]:8086'],
    ['[0:0:0:0:0:0:0:1]:8086', 'http://[::1]:8086'],
  ])('may be of the same host and port: %s, %s', async (host, origin) =>
    expect(await from(host, `Origin: ${origin}`)).toBe(200),
  )

  it.each([
    'null',
    'http://evil.example',
    'http://localhost:3000',
    'http://localhost',
    'https://localhost',
    'http://127.0.0.1:8086',
    'http://localhost:8086.evil.example',
    'http://localhost:8086@evil.example',
    'http://evil.example/localhost:8086',
    'http://user@localhost:8086',
    'http://localhost:8086/',
    'file://',
    'chrome-extension://localhost:8086',
    'localhost:8086',
    '',
  ])('may not be of another: "%s"', async (origin) => {
    const { status, body, head } = await ask(['Host: localhost:8086', `Origin: ${origin}`])
    expect([status, body.code]).toEqual([403, 'forbidden'])
    expect(head.toLowerCase()).not.toContain('access-control')
  })

  it('is told by Sec-Fetch-Site where there is no Origin, and by each of several Origins', async () => {
    expect(await from('localhost:8086', 'Sec-Fetch-Site: cross-site')).toBe(403)
    for (const site of ['none', 'same-origin'])
      expect(await from('localhost:8086', `Sec-Fetch-Site: ${site}`)).toBe(200)
    expect(await from('localhost:8086', 'Origin: http://localhost:8086', 'Origin: http://evil.example')).toBe(403)
    expect(await from('localhost:8086', 'Origin: http://evil.example', 'Origin: http://localhost:8086')).toBe(403)
  })

  it('gets no leave to call from another: there is no CORS', async () => {
    const preflight = ['Host: localhost', 'Origin: http://evil.example', 'Access-Control-Request-Method: POST']
    const { status, head } = await ask(preflight, 'OPTIONS /containers/tool/execute')
    expect(status).toBe(403)
    expect(head.toLowerCase()).not.toContain('access-control')
    const own = await ask(['Host: localhost', 'Origin: http://localhost'])
    expect(own.head.toLowerCase()).not.toContain('access-control')
  })
})
