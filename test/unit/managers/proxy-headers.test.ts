import { describe, expect, it } from 'vitest'
import { answerHeaders, requestHeaders } from '../../../src/managers/proxy-headers.ts'

const VISITOR = { address: '192.0.2.7', host: 'orchestrator:8086', protocol: 'http', prefix: '/p', requestId: 'r1' }
const sent = (headers: string[], { method = 'GET', isUpgrade = false } = {}) =>
  asPairs(requestHeaders({ method, headers, isUpgrade }, 'web:8000', VISITOR))
const answered = (headers: string[], ours: string[] = []) =>
  asPairs(answerHeaders(headers, (name) => ours.includes(name)))

function asPairs(list: readonly string[]): [string, string][] {
  return list.flatMap((name, index) => (index % 2 === 0 ? [[name, list[index + 1] ?? ''] as [string, string]] : []))
}
const TOLD: [string, string][] = [
  ['x-forwarded-for', '192.0.2.7'],
  ['x-forwarded-host', 'orchestrator:8086'],
  ['x-forwarded-proto', 'http'],
  ['x-forwarded-prefix', '/p'],
  ['x-request-id', 'r1'],
]
const CLOSE: [string, string] = ['connection', 'close']
const HOST: [string, string] = ['host', 'web:8000']

describe('what a relic is told', () => {
  it('has what the caller wrote, in its order and as often', () => {
    const headers = ['Host', 'localhost', 'Accept', 'text/plain', 'Cookie', 'a=1', 'X-Many', '1', 'x-many', '2']
    expect(sent(headers)).toEqual([
      HOST,
      ['Accept', 'text/plain'],
      ['Cookie', 'a=1'],
      ['X-Many', '1'],
      ['x-many', '2'],
      CLOSE,
      ...TOLD,
    ])
  })

  it('has no key of this service, and the authorization that is meant for the relic', () => {
    expect(sent(['Authorization', 'Bearer co_key_secret', 'AUTHORIZATION', 'Basic x'])).toEqual([HOST, CLOSE, ...TOLD])
    expect(sent(['Authorization', 'Bearer co_key_secret', 'X-Relic-Authorization', 'Basic YTpi'])).toEqual([
      HOST,
      ['authorization', 'Basic YTpi'],
      CLOSE,
      ...TOLD,
    ])
  })

  it('has nothing that a caller says about itself in our name', () => {
    const forged = ['X-Forwarded-For', '10.0.0.1', 'x-forwarded-anything', 'y', 'Forwarded', 'for=1', 'X-Real-IP', '1']
    expect(sent([...forged, 'X-Request-Id', 'theirs', 'Expect', '100-continue'])).toEqual([HOST, CLOSE, ...TOLD])
  })

  it('has no header that is for one connection, named by the standard or by Connection', () => {
    const hops = ['TE', 'trailers', 'Trailer', 'x', 'Keep-Alive', '5', 'Proxy-Authorization', 'a', 'Upgrade', 'h2c']
    const named = ['Connection', 'X-Mine, upgrade', 'connection', 'x-other', 'X-Mine', '1', 'X-Other', '2']
    expect(sent([...hops, ...named, 'X-Kept', '3'])).toEqual([HOST, ['X-Kept', '3'], CLOSE, ...TOLD])
  })

  it.each([
    ['a length', 'POST', ['Content-Length', '7'], [['content-length', '7']]],
    [
      'a length that Connection lists',
      'GET',
      ['Connection', 'content-length', 'Content-Length', '7'],
      [['content-length', '7']],
    ],
    ['chunks', 'GET', ['Transfer-Encoding', 'chunked'], [['transfer-encoding', 'chunked']]],
    ['nothing, with a method that sends a body', 'PUT', [], [['content-length', '0']]],
    ['nothing, with one that does not', 'DELETE', [], []],
  ])('is told the body by %s', (_name, method, headers, framing) => {
    expect(sent(headers, { method })).toEqual([HOST, ...framing, CLOSE, ...TOLD])
  })

  it('is asked for a WebSocket with the headers of its handshake', () => {
    const handshake = ['Connection', 'keep-alive, Upgrade', 'Upgrade', 'websocket', 'Sec-WebSocket-Key', 'k']
    expect(sent(handshake, { isUpgrade: true })).toEqual([
      HOST,
      ['Sec-WebSocket-Key', 'k'],
      ['connection', 'Upgrade'],
      ['upgrade', 'websocket'],
      ...TOLD,
    ])
  })
})

describe('what a caller is told of an answer', () => {
  const MARKS: [string, string][] = [
    ['content-security-policy', 'sandbox'],
    ['via', '1.1 container-orchestrator'],
  ]

  it('has what the relic wrote, cookies each by itself, and a policy beside its own', () => {
    const headers = ['Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'Location', '/elsewhere', 'Content-Security-Policy', 'x']
    expect(answered(headers)).toEqual([
      ['Set-Cookie', 'a=1'],
      ['Set-Cookie', 'b=2'],
      ['Location', '/elsewhere'],
      ['Content-Security-Policy', 'x'],
      ...MARKS,
    ])
  })

  it('has nothing that is for one connection, or for all that this service answers', () => {
    const hops = ['Connection', 'close, X-Hop', 'X-Hop', '1', 'Transfer-Encoding', 'chunked', 'Keep-Alive', '5']
    const wide = [
      'Strict-Transport-Security',
      'max-age=1',
      'Clear-Site-Data',
      '"*"',
      'Alt-Svc',
      'h2',
      'Report-To',
      '{}',
    ]
    const cors = ['Access-Control-Allow-Origin', '*', 'access-control-allow-credentials', 'true']
    expect(answered([...hops, ...wide, ...cors, 'Etag', '"1"'])).toEqual([['Etag', '"1"'], ...MARKS])
  })

  it('has nothing twice that this service sets', () => {
    expect(
      answered(['X-Frame-Options', 'ALLOWALL', 'X-Request-Id', 'theirs'], ['x-frame-options', 'x-request-id']),
    ).toEqual(MARKS)
  })
})
