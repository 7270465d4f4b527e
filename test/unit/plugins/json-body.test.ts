import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type MemoryService, startMemoryService } from '../../fixtures/memory-service.ts'
import { RawConnection, rawRequest, sendRaw } from '../../fixtures/raw-http.ts'

let service: MemoryService

beforeAll(async () => {
  service = await startMemoryService()
})
afterAll(() => service[Symbol.asyncDispose]())

const ROUTE = '/containers/cleanup/orphans'
const send = async (body: string | Uint8Array, headers: Record<string, string> = {}) => {
  const answer = await fetch(service.url + ROUTE, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : new Uint8Array(body),
  })
  return { status: answer.status, body: (await answer.json()) as { code?: string; detail?: string; hint?: string } }
}

/** Sends in chunks, in bytes of the protocol. */
async function sendChunks(chunks: Iterable<string>) {
  using connection = await RawConnection.open(service.port)
  const head = ['Host: localhost', 'Content-Type: application/json', 'Transfer-Encoding: chunked', 'Connection: close']
  connection.write(`POST ${ROUTE} HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n`)
  for (const chunk of chunks) connection.write(`${Buffer.byteLength(chunk).toString(16)}\r\n${chunk}\r\n`)
  connection.write('0\r\n\r\n')
  await connection.closed()
  return connection.answer
}

describe('the body of a request', () => {
  it.each([
    ['{"dry_run":true}', {}],
    [' {"dry_run" : true}\n', {}],
    ['{"dry_run":true}', { 'content-type': 'application/json; charset=utf-8' }],
    ['{"dry_run":true}', { 'content-type': 'APPLICATION/JSON;charset="UTF-8"' }],
    ['{"dry_run":true}', { 'content-encoding': 'identity' }],
  ])('is JSON: %s %o', async (body, headers) => expect((await send(body, headers)).status).toBe(200))

  it.each<[string, string | Uint8Array, Record<string, string>, string]>([
    ['nothing', '', {}, 'empty'],
    ['no JSON', '{"dry_run":tru}', {}, 'not JSON'],
    ['JSON with a comment', '{"dry_run":true}//', {}, 'not JSON'],
    ['JSON twice', '{}{}', {}, 'not JSON'],
    ['an empty member', '{"dry_run":true,}', {}, 'not JSON'],
    ['a byte order mark', '\ufeff{}', {}, 'byte order mark'],
    ['broken UTF-8', Buffer.from('7b2261223a22c328227d', 'hex'), {}, 'UTF-8'],
    ['an overlong slash', Buffer.from('7b2261223a22c0af227d', 'hex'), {}, 'UTF-8'],
    ['half a surrogate in UTF-8', Buffer.from('7b2261223a22eda080227d', 'hex'), {}, 'UTF-8'],
    ['UTF-16', Buffer.from('{}', 'utf16le'), {}, 'not JSON'],
    ['another charset', '{}', { 'content-type': 'application/json; charset=utf-16' }, 'UTF-8'],
    ['a key twice', '{"dry_run":true,"dry_run":false}', {}, 'twice'],
    ['a key in two spellings', '{"dry_run":true,"dry\\u005frun":false}', {}, 'twice'],
    ['__proto__', '{"__proto__":{"dry_run":true}}', {}, '__proto__'],
    ['constructor.prototype', '{"constructor":{"prototype":{}}}', {}, 'constructor.prototype'],
    ['deep nesting', `{"a":${'['.repeat(40)}${']'.repeat(40)}}`, {}, 'nested'],
    ['nesting that never ends', '['.repeat(1_000_000), {}, 'nested'],
    ['a great many elements', `[${'0,'.repeat(60_000)}0]`, {}, '50000'],
    ['a form', 'a=b', { 'content-type': 'application/x-www-form-urlencoded' }, 'x-www-form-urlencoded'],
    ['parts', '--x--', { 'content-type': 'multipart/form-data; boundary=x' }, 'multipart'],
    ['text', '{}', { 'content-type': 'text/plain' }, 'text/plain'],
    ['another JSON', '{}', { 'content-type': 'application/json-patch+json' }, 'json-patch'],
    ['gzip', gzipSync('{}'), { 'content-encoding': 'gzip' }, 'Content-Encoding gzip'],
    ['brotli, it says', '{}', { 'content-encoding': 'br' }, 'Content-Encoding br'],
  ])('is refused where it is %s', async (_name, body, headers, reason) => {
    const answer = await send(body, headers)
    expect([answer.status, answer.body.code]).toEqual([400, 'validation_failed'])
    expect(answer.body.detail).toContain(reason)
  })

  it('says what it is', async () => {
    const { status, body } = await sendRaw(service.port, rawRequest(`POST ${ROUTE}`, ['Host: localhost'], '{}'))
    expect([status, body.detail]).toEqual([400, 'The body has no Content-Type, which is not read here'])
  })

  it('ends at 1 MiB, told before and found out', async () => {
    const text = (bytes: number) => `{"a":"${'x'.repeat(bytes - 8)}"}`
    const mebibyte = 2 ** 20
    const fits = await send(text(mebibyte))
    expect([fits.status, fits.body.detail]).toEqual([400, expect.stringContaining('a')])
    const tooLong = await send(text(mebibyte + 1))
    expect([tooLong.status, tooLong.body.code]).toEqual([413, 'body_too_large'])
    const head = ['Host: localhost', 'Content-Type: application/json', 'Content-Length: 99999999999']
    // It does not wait for what will not come.
    const announced = await sendRaw(service.port, `POST ${ROUTE} HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n{`)
    expect([announced.status, announced.body.code]).toEqual([413, 'body_too_large'])
  })

  it('may come in chunks, and is bounded all the same', async () => {
    expect((await sendChunks(['{"dry_', 'run":', 'true}'])).status).toBe(200)
    const chunk = ' '.repeat(2 ** 16)
    const endless = await sendChunks(
      (function* () {
        for (let count = 0; count < 20; count++) yield chunk
      })(),
    )
    expect([endless.status, endless.body.code]).toEqual([413, 'body_too_large'])
  })

  it('holds no bytes back when bombs come in numbers', { timeout: 30_000 }, async () => {
    const bomb = '[{"a":'.repeat(170_000)
    const before = process.memoryUsage().rss
    for (let round = 0; round < 20; round++) {
      const answers = await Promise.all(Array.from({ length: 10 }, () => send(bomb)))
      expect(answers.every(({ status }) => status === 400)).toBe(true)
    }
    // 200 MB of bodies passed; parsed they would have been several times that.
    expect((process.memoryUsage().rss - before) / 2 ** 20).toBeLessThan(256)
  })
})
