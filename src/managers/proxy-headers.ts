/** Headers of calls that are passed on to a relic, and of its answers. Lists are as Node has them: name, value, name, value. */

/** Who calls, as the relic is told. */
export interface Visitor {
  /** Address of the caller. */
  address: string
  /** The `Host` that the caller wrote, and `http` or `https`. */
  host: string
  protocol: string
  /** Path of this service that stands for the relic's `/`. */
  prefix: string
  requestId: string
}

/** Written to send a head: `flushHeaders` would write in UTF-8 what was read as Latin-1. */
export const NOTHING = Buffer.alloc(0)

/** Speaks for one connection alone (RFC 9110, 7.6.1). */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** Said to this service, or by it. */
const OURS_IN_REQUESTS = new Set([
  // A key of this service is none of the relic's business; what is meant for the relic has a header of its own.
  'authorization',
  'x-relic-authorization',
  'host',
  // The service has answered it.
  'expect',
  'forwarded',
  'x-real-ip',
  'x-request-id',
  // Framing is written anew.
  'content-length',
])

/** What an answer could set for every page and call under the address of this service, beyond the relic's own. */
const ORIGIN_WIDE = new Set([
  'alt-svc',
  'clear-site-data',
  'nel',
  'public-key-pins',
  'report-to',
  'reporting-endpoints',
  'service-worker-allowed',
  'strict-transport-security',
])
/** Nobody but this service decides which pages may read what comes from its address: none. */
const CORS = 'access-control-'

const SENDS_A_BODY = new Set(['POST', 'PUT', 'PATCH'])

/** The headers with which a relic is called. `host` is its name and port. */
export function requestHeaders(
  { method, headers, isUpgrade }: { method: string; headers: readonly string[]; isUpgrade: boolean },
  host: string,
  visitor: Visitor,
): string[] {
  const given = pairs(headers)
  const dropped = connectionOptions(given)
  const passed = given.filter(
    ([name]) =>
      !HOP_BY_HOP.has(name) && !dropped.has(name) && !OURS_IN_REQUESTS.has(name) && !name.startsWith('x-forwarded-'),
  )
  const authorization = firstOf(given, 'x-relic-authorization')
  return [
    ...['host', host],
    ...passed.flatMap(([, value, written]) => [written, value]),
    ...(authorization === undefined ? [] : ['authorization', authorization]),
    ...framing(method, given),
    ...(isUpgrade ? ['connection', 'Upgrade', 'upgrade', 'websocket'] : ['connection', 'close']),
    ...['x-forwarded-for', visitor.address],
    ...['x-forwarded-host', visitor.host],
    ...['x-forwarded-proto', visitor.protocol],
    ...['x-forwarded-prefix', visitor.prefix],
    ...['x-request-id', visitor.requestId],
  ]
}

/** What of a relic's headers goes to the caller. `isOurs` tells the names that this service has set itself. */
export function answerHeaders(headers: readonly string[], isOurs: (name: string) => boolean): string[] {
  const given = pairs(headers)
  const dropped = connectionOptions(given)
  const passed = given.filter(
    ([name]) =>
      !HOP_BY_HOP.has(name) && !dropped.has(name) && !ORIGIN_WIDE.has(name) && !name.startsWith(CORS) && !isOurs(name),
  )
  return [
    ...passed.flatMap(([, value, written]) => [written, value]),
    // A page of a relic has the address of this service, but not its rights: a browser gives it an origin of its
    // own, and runs nothing of it. Of several policies each holds.
    ...['content-security-policy', 'sandbox'],
    // Tells an answer of the relic from one of this service.
    ...['via', '1.1 container-orchestrator'],
  ]
}

/** How the body is told to the relic: as the caller told it, and never two ways at once. */
function framing(method: string, given: readonly Header[]): string[] {
  if (firstOf(given, 'transfer-encoding') !== undefined) return ['transfer-encoding', 'chunked']
  const length = firstOf(given, 'content-length') ?? (SENDS_A_BODY.has(method) ? '0' : undefined)
  return length === undefined ? [] : ['content-length', length]
}

/** Name in lower case, value, name as written. */
type Header = readonly [name: string, value: string, written: string]

function pairs(headers: readonly string[]): Header[] {
  return headers.flatMap((written, index): Header[] =>
    index % 2 === 0 ? [[written.toLowerCase(), headers[index + 1] ?? '', written]] : [],
  )
}

function firstOf(headers: readonly Header[], name: string): string | undefined {
  return headers.find(([candidate]) => candidate === name)?.[1]
}

/** Names that `Connection` lists: they are for one connection alone, too. */
function connectionOptions(headers: readonly Header[]): Set<string> {
  const listed = headers.filter(([name]) => name === 'connection').flatMap(([, value]) => value.split(','))
  return new Set(listed.map((name) => name.trim().toLowerCase()))
}
