/**
 * Requests made of openapi.yaml, for every operation: allowed, nearly allowed, and garbage. No answer is a
 * 5xx but those that are declared and provoked, each has a declared status and form (the service checks the
 * form itself, and fails with a 500 where it is another), and memory stays flat.
 *
 * SECURITY_FUZZ sets how many (100,000 in the suite), SECURITY_SEED replays.
 */
import { existsSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { text as textOf } from 'node:stream/consumers'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parse } from 'yaml'
import { TOOLBOX } from '../fixtures/images.ts'
import { type MemoryService, startMemoryService } from '../fixtures/memory-service.ts'
import { seed } from '../support/random.ts'
import { report } from '../support/report.ts'
import { ANYTHING, anyText, arbitraryOf, type FromSchema, type Schema } from './support/from-schema.ts'

interface Parameter {
  name: string
  in: 'path' | 'query' | 'header'
  schema: Schema
}
interface Operation {
  operationId: string
  parameters?: readonly Parameter[]
  requestBody?: { content: Record<string, { schema?: Schema }> }
  responses: Record<string, unknown>
}
interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Schema> }
}
interface Call {
  operation: Operation
  method: string
  url: string
  headers: Record<string, string>
  payload: string | undefined
}

const REQUESTS = Number(process.env['SECURITY_FUZZ'] ?? 8_000)
const SEED = seed()
const ROUNDS = 8
/**
 * Callers at once, for most of a call is waiting for what its container does. Each has a service of its own, so
 * that what went before a failure is what its seed says.
 */
const LANES = 16
/** Memory, where the machine shows it as a folder: a disk would make each request wait for its writes. */
const DATA_ROOT = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
/** What may grow from round to round without being a leak, for all of them. */
const SPARE_BYTES = 64 * 1024 * 1024
/** What callers can provoke, and is none of the service's faults. */
const PROVOKED = new Set(['health_check_timeout'])

const { paths, components } = parse(readFileSync('openapi.yaml', 'utf8')) as Document
const OPERATIONS = Object.entries(paths).flatMap(([path, methods]) =>
  Object.entries(methods)
    .filter(([method]) => ['get', 'put', 'post', 'delete', 'patch'].includes(method))
    .map(([method, operation]) => ({ path, method, operation })),
)

/** Few, so that calls meet each other's things. */
const SESSION = fc.constantFrom('s1', 's2', 's3')
const WORKER = fc.constantFrom('w1', 'w2', 'w3')
const SHORT = fc.double({ min: 0.1, max: 0.3, noNaN: true })
const COMMAND = fc.oneof(
  fc.constantFrom(['echo', 'hi'], ['sleep', '0.1'], ['sh', '-c', 'echo x; exit 3'], ['cat']),
  fc.array(fc.string({ maxLength: 20 }), { minLength: 1, maxLength: 3 }),
)
const IMAGE = fc.oneof(
  { arbitrary: fc.constant(TOOLBOX), weight: 8 },
  { arbitrary: fc.constant('no/such:image'), weight: 1 },
)
const mostly = (usual: fc.Arbitrary<unknown>) => (allowed: fc.Arbitrary<unknown>) =>
  fc.oneof({ arbitrary: usual, weight: 18 }, { arbitrary: allowed, weight: 1 }, { arbitrary: ANYTHING, weight: 1 })
/** Most of what these allow is refused, for reasons of their own. */
const SELDOM = [
  'dockerfile',
  'build',
  'gpu',
  'profile',
  'credentials',
  'network',
  'network_mode',
  'user',
  'workspace',
  'ports',
  'volumes',
  'input_files',
  'output_paths',
  'exit_codes',
  'healthcheck',
  'ready',
  'nofile',
]
const GIVEN: FromSchema = {
  components: components.schemas,
  fields: {
    session_id: mostly(SESSION),
    worker_id: mostly(WORKER),
    image: mostly(IMAGE),
    command: mostly(COMMAND),
    entrypoint: mostly(fc.constantFrom(undefined, [], ['echo'])),
    timeout_seconds: () => fc.oneof({ arbitrary: SHORT, weight: 19 }, { arbitrary: ANYTHING, weight: 1 }),
    health_check_timeout_seconds: () => SHORT,
    health_check_endpoint: mostly(fc.constantFrom(null, null, null, '/health')),
    ...Object.fromEntries(SELDOM.map((name) => [name, mostly(fc.constant(undefined))])),
  },
}

interface Lane {
  service: MemoryService
  /** Ids that were given out lately. */
  known: string[]
  calls: fc.Arbitrary<Call>
}
let lanes: Lane[]

beforeAll(async () => {
  lanes = await Promise.all(
    Array.from({ length: LANES }, async () => {
      const service = await startMemoryService({
        environment: { CO_DISK_RESERVE_MB: '0' },
        requestsPerMinute: Number.MAX_SAFE_INTEGER,
        dataRoot: DATA_ROOT,
      })
      const known: string[] = []
      return { service, known, calls: fc.oneof(...OPERATIONS.map((operation) => callOf(operation, known))) }
    }),
  )
})
afterAll(() => Promise.all(lanes.map(({ service }) => service[Symbol.asyncDispose]())))

const callOf = (
  { path, method, operation }: (typeof OPERATIONS)[number],
  known: readonly string[],
): fc.Arbitrary<Call> => {
  const { parameters = [] } = operation
  const segment = (name: string) => {
    const pool =
      name === 'session_id'
        ? SESSION
        : name === 'worker_id'
          ? WORKER
          : fc.nat().map((at) => known[at % Math.max(known.length, 1)] ?? 'exec_x')
    return fc.oneof({ arbitrary: pool, weight: 8 }, { arbitrary: anyText(30), weight: 1 })
  }
  const inPath = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name = '']) => name)
  const query = parameters.filter((parameter) => parameter.in === 'query')
  const values = (oddness: number) =>
    fc.record(Object.fromEntries(query.map(({ name, schema }) => [name, arbitraryOf(schema, GIVEN, oddness)])), {
      requiredKeys: [],
    })
  const [content] = Object.entries(operation.requestBody?.content ?? {})
  const schema = content?.[1].schema
  const json = (value: unknown) => JSON.stringify(value)
  const body =
    schema === undefined
      ? fc.oneof({ arbitrary: fc.constant(undefined), weight: 8 }, { arbitrary: fc.constantFrom('{}', 'x'), weight: 1 })
      : fc.oneof(
          { arbitrary: arbitraryOf(schema, GIVEN, 0).map(json), weight: 4 },
          { arbitrary: arbitraryOf(schema, GIVEN, 40).map(json), weight: 4 },
          { arbitrary: arbitraryOf(schema, GIVEN, 5).map(json), weight: 2 },
          { arbitrary: ANYTHING.map(json), weight: 1 },
          { arbitrary: anyText(200), weight: 1 },
          {
            arbitrary: fc
              .tuple(arbitraryOf(schema, GIVEN, 0).map(json), fc.nat())
              .map(([text = '', at]) => text.slice(0, at % (text.length + 1))),
            weight: 1,
          },
        )
  const type = fc.oneof(
    { arbitrary: fc.constant(content?.[0] ?? 'application/json'), weight: 15 },
    {
      arbitrary: fc.constantFrom(
        'text/plain',
        'application/x-www-form-urlencoded',
        'application/json; charset=utf-16',
        'x',
        '',
      ),
      weight: 1,
    },
  )
  const header = fc.record(
    {
      'idempotency-key': fc.string({ minLength: 1, maxLength: 40 }).map(printable),
      'x-request-id': fc.string({ maxLength: 200 }).map(printable),
      prefer: fc.constantFrom('respond-async', 'wait=1', 'x'),
      'last-event-id': fc.constantFrom('0', '5', '-1', 'x', '99999999999999999999'),
    },
    { requiredKeys: [] },
  )
  const isFollowed = fc.oneof(values(0), values(4))
  return fc
    .tuple(fc.tuple(...inPath.map(segment)), isFollowed, body, type, header)
    .map(([ids, asked, payload, contentType, more]) => {
      let url = path
      inPath.forEach((name, at) => {
        url = url.replace(`{${name}}`, encodeURIComponent(wellFormed(ids[at] ?? '')))
      })
      const search = new URLSearchParams(
        Object.entries(asked).map(([name, value]): [string, string] => [
          name,
          typeof value === 'string' ? value : JSON.stringify(value),
        ]),
      )
      return {
        operation,
        method: method.toUpperCase(),
        url: search.size === 0 ? url : `${url}?${search}`,
        headers: { host: 'localhost', ...(payload === undefined ? {} : { 'content-type': contentType }), ...more },
        payload,
      }
    })
}

const printable = (text: string) => text.replace(/[^\x20-\x7e]/g, '?').trim() || 'x'
/** Half a surrogate has no place in a URL. */
const wellFormed = (text: string) => text.toWellFormed()

async function send(
  { service }: Lane,
  { method, url, headers, payload }: Call,
): Promise<{ status: number; text: string; type: string }> {
  const answer = await service.app.inject({
    method: method as 'GET',
    url,
    headers,
    ...(payload === undefined ? {} : { payload }),
    payloadAsStream: true,
  })
  const type = String(answer.headers['content-type'] ?? '')
  if (type.includes('event-stream')) {
    answer.stream().destroy()
    return { status: answer.statusCode, text: '', type }
  }
  return { status: answer.statusCode, text: await textOf(answer.stream()), type }
}

/** What is wrong with an answer; undefined where nothing is. */
function fault(
  operation: Operation,
  { status, text, type }: { status: number; text: string; type: string },
): string | undefined {
  if (operation.responses[String(status)] === undefined) return `${status} is not declared: ${text.slice(0, 300)}`
  if (status < 400) return undefined
  if (!type.startsWith('application/problem+json') && operation.operationId !== 'getReadiness')
    return `a ${status} that is no problem: ${type} ${text}`
  const problem = type.includes('json') ? (JSON.parse(text) as Record<string, unknown>) : {}
  if (status >= 500 && !PROVOKED.has(String(problem['code']))) return `${status}: ${text.slice(0, 300)}`
  if (problem['status'] !== status || typeof problem['code'] !== 'string') return `a problem that is none: ${text}`
  return undefined
}

function remember({ known }: Lane, text: string): void {
  for (const [id] of text.matchAll(/(?:exec|relic|snapshot)_[0-9A-Za-z]{10,}|[0-9a-f]{64}/g)) known.push(id)
  known.splice(0, Math.max(0, known.length - 50))
}

/** Something of each kind to begin with: most calls are about what is there. */
async function populate(lane: Lane): Promise<void> {
  const common = { session_id: 's1', image: TOOLBOX }
  const things: [string, object][] = [
    ['/containers/tool/execute', { ...common, tool_name: 't', command: ['echo', 'hi'] }],
    ['/containers/relic/start', { ...common, relic_name: 'r', command: ['sleep', '600'], health_check_endpoint: null }],
    ...['w1', 'w2', 'w3'].map((worker_id): [string, object] => [
      '/containers/worker/start',
      { ...common, worker_id, command: ['sleep', '600'] },
    ]),
    ['/containers/worker/w1/exec', { command: ['echo', 'hi'] }],
  ]
  for (const [url, body] of things) {
    const made = await lane.service.call('POST', url, body)
    expect(made.status, JSON.stringify(made.body)).toBeLessThan(300)
    remember(lane, JSON.stringify(made.body))
  }
}

/** All that was made goes, so that what is left of it in memory is a leak. */
async function cleanUp({ service }: Lane): Promise<void> {
  for (const session of ['s1', 's2', 's3']) await service.call('DELETE', `/sessions/${session}?force=true`)
  for (const { worker_id } of (await service.call('GET', '/containers/worker?limit=1000')).body.items) {
    await service.call('DELETE', `/containers/worker/${encodeURIComponent(worker_id)}`)
  }
  for (const { session_id } of (await service.call('GET', '/sessions?limit=1000')).body.items) {
    await service.call('DELETE', `/sessions/${encodeURIComponent(session_id)}?force=true`)
  }
}

function heapBytes(): number {
  if (globalThis.gc === undefined) throw new Error('run with --expose-gc, as test/security/vitest.config.ts says')
  globalThis.gc()
  return process.memoryUsage().heapUsed
}

it(`answers ${REQUESTS} requests made of openapi.yaml without a fault (seed ${SEED})`, async () => {
  const statuses = new Map<number, number>()
  const operations = new Set<string>()
  const refused = new Map<string, string>()
  const heaps: number[] = []
  const began = performance.now()
  const ask = async (lane: Lane, call: Call) => {
    const answer = await send(lane, call)
    statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1)
    if (answer.status < 300) operations.add(call.operation.operationId)
    else refused.set(call.operation.operationId, `${answer.status} ${answer.text.slice(0, 200)}`)
    remember(lane, answer.text)
    const wrong = fault(call.operation, answer)
    if (wrong !== undefined) throw new Error(`${call.method} ${call.url} ${call.payload?.slice(0, 2_000)}: ${wrong}`)
  }
  for (let round = 0; round < ROUNDS; round++) {
    const ended = await Promise.allSettled(
      lanes.map(async (lane, number) => {
        await populate(lane)
        await fc.assert(
          fc.asyncProperty(lane.calls, (call) => ask(lane, call)),
          // What went before is part of the cause, so that smaller requests would not show the same.
          { numRuns: Math.ceil(REQUESTS / ROUNDS / LANES), seed: SEED + round * LANES + number, endOnFailure: true },
        )
        await cleanUp(lane)
      }),
    )
    for (const end of ended) if (end.status === 'rejected') throw end.reason
    heaps.push(heapBytes())
  }
  const seconds = (performance.now() - began) / 1_000
  const [first = 0] = heaps
  const grown = (heaps.at(-1) ?? 0) - first
  expect(grown, `heap after each round: ${heaps.join(', ')}`).toBeLessThan(SPARE_BYTES)
  // A fuzz that gets nowhere proves nothing.
  const never = [...refused].filter(([operation]) => !operations.has(operation))
  expect(operations.size, never.map(String).join('\n')).toBeGreaterThan(OPERATIONS.length / 2)
  const count = (from: number, to: number) =>
    [...statuses].reduce((sum, [status, times]) => sum + (status >= from && status < to ? times : 0), 0)
  await report('Requests made of openapi.yaml', {
    requests: count(100, 600),
    operations: OPERATIONS.length,
    'operations that succeeded': operations.size,
    seed: SEED,
    '2xx': count(200, 300),
    '4xx': count(400, 500),
    '504 of health checks': count(504, 505),
    'other 5xx': 0,
    'heap grown, MiB': Math.round(grown / 1024 ** 2),
    'requests a second': Math.round(count(100, 600) / seconds),
  })
})
