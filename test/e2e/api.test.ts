import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { EngineError } from '../../src/errors.ts'
import { Client, sh, toolRequest } from '../fixtures/client.ts'
import { HTTPD, TOOLBOX } from '../fixtures/images.ts'
import { startService, type TestService } from '../fixtures/service.ts'
import { newSession } from '../fixtures/sessions.ts'

let service: TestService
let client: Client

beforeAll(async () => {
  service = await startService()
  client = new Client(service.url)
})
afterAll(() => service.destroy())

const execute = (body: unknown, headers?: Record<string, string>) =>
  client.post('/containers/tool/execute', body, headers)

describe('a URL that cannot be decoded', () => {
  it('is a problem like all others', async () => {
    const answer = await client.get('/containers/worker/%zz')
    expect([answer.status, answer.body.code]).toEqual([400, 'validation_failed'])
    expect(answer.headers.get('content-type')).toContain('application/problem+json')
    expect(answer.body.request_id).toBe(answer.headers.get('x-request-id'))
  })
})

describe('problems', () => {
  it('name every field that is wrong, and coerce nothing', async () => {
    const answer = await execute({
      tool_name: 'bad name',
      session_id: 5,
      image: TOOLBOX,
      resource_limits: { memory_mb: '512', cpus: 1 },
      extra: true,
    })
    expect(answer.status).toBe(400)
    expect(answer.headers.get('content-type')).toContain('application/problem+json')
    expect(answer.body).toMatchObject({
      type: expect.any(String),
      title: expect.any(String),
      status: 400,
      code: 'validation_failed',
      request_id: expect.any(String),
    })
    expect(answer.body.errors.map((error: { path: string }) => error.path).toSorted()).toEqual([
      'extra',
      'resource_limits.cpus',
      'resource_limits.memory_mb',
      'session_id',
      'tool_name',
    ])
  })

  it('answer a 4xx to every malformed request', async () => {
    const good = toolRequest({ command: ['true'] })
    const cases: [string, unknown, number, string][] = [
      ['no body', '', 400, 'validation_failed'],
      ['not JSON', '{"a":', 400, 'validation_failed'],
      ['an array', '[]', 400, 'validation_failed'],
      ['__proto__', '{"__proto__":{"x":1},"tool_name":"t","session_id":"s","image":"a"}', 400, 'validation_failed'],
      [
        'constructor.prototype',
        '{"constructor":{"prototype":{"x":1}},"tool_name":"t","session_id":"s","image":"a"}',
        400,
        'validation_failed',
      ],
      ['no image', { tool_name: 't', session_id: 's' }, 400, 'validation_failed'],
      ['two images', { ...good, dockerfile: 'FROM scratch' }, 400, 'validation_failed'],
      ['image with a space', { ...good, image: 'a b' }, 400, 'validation_failed'],
      ['image that climbs', { ...good, image: '../containers/json' }, 400, 'validation_failed'],
      ['unknown network', { ...good, network_mode: 'host' }, 400, 'validation_failed'],
      ['a container network', { ...good, network_mode: 'container:abc' }, 400, 'validation_failed'],
      ['key in other case', { ...good, Command: ['true'] }, 400, 'validation_failed'],
      ['engine field', { ...good, HostConfig: { Privileged: true } }, 400, 'validation_failed'],
      ['privileged', { ...good, privileged: true }, 400, 'validation_failed'],
      ['parameters that fold into one', { ...good, parameters: { 'a-b': 1, a_b: 2 } }, 400, 'validation_failed'],
      ['reserved variable', { ...good, environment: { TOOL_NAME: 'x' } }, 400, 'validation_failed'],
      ['NUL', { ...good, command: ['a\0b'] }, 400, 'validation_failed'],
      [
        'two volumes at one place',
        {
          ...good,
          volumes: [
            { source: 'a', target: '/x' },
            { source: 'b', target: '/x' },
          ],
        },
        400,
        'validation_failed',
      ],
      ['output in the root', { ...good, output_paths: ['/file'] }, 400, 'validation_failed'],
      ['bridge network', { ...good, network_mode: 'bridge' }, 403, 'policy_denied'],
      ['unknown profile', { ...good, profile: 'root' }, 403, 'policy_denied'],
      [
        'the docker socket',
        { ...good, volumes: [{ source: '/var/run/docker.sock', target: '/sock' }] },
        403,
        'policy_denied',
      ],
      ['mount over /proc', { ...good, volumes: [{ source: 'v', target: '/proc' }] }, 403, 'policy_denied'],
      [
        'ADD of a URL',
        { tool_name: 't', session_id: 's', dockerfile: 'FROM scratch\nADD http://127.0.0.1:1/x /x' },
        403,
        'policy_denied',
      ],
      ['gpu on an engine without', { ...good, gpu: {} }, 422, 'gpu_unavailable'],
      ['a large body', { ...good, stdin: 'x'.repeat(1024 * 1024) }, 413, 'body_too_large'],
    ]
    for (const [name, body, status, code] of cases) {
      const answer = await execute(body, { 'content-type': 'application/json' })
      expect([answer.status, answer.body?.code], name).toEqual([status, code])
      expect(answer.body.detail.length, name).toBeGreaterThan(0)
    }
    expect((await execute('tool_name=t', { 'content-type': 'application/x-www-form-urlencoded' })).status).toBe(400)
  })

  it('answer 404 for what is not ours, whatever the id tries to be', async () => {
    const ids = [
      'exec_unknown',
      '..%2F..%2Fcontainers%2Fjson',
      '%2e%2e',
      'a'.repeat(64),
      '..%2Fimages',
      '%00',
      'x%0d%0aHost:evil',
    ]
    for (const id of ids) {
      for (const path of [
        `/containers/tool/${id}`,
        `/containers/tool/${id}/logs`,
        `/containers/tool/${id}/artifacts`,
        `/containers/relic/${id}`,
        `/containers/relic/${id}/logs`,
        `/containers/relic/${id}/health`,
        `/containers/stats/${id}`,
      ]) {
        const answer = await client.get(path)
        expect([400, 404], `${path}: ${answer.status}`).toContain(answer.status)
      }
      expect([400, 404]).toContain((await client.post(`/containers/tool/${id}/cancel`)).status)
      expect([400, 404]).toContain((await client.post(`/containers/relic/${id}/stop`)).status)
    }
    expect((await client.get('/nothing/here')).body.code).toBe('not_found')
    expect((await client.get('/sessions/unknown')).body.code).toBe('not_found')
  })

  it('refuse unknown and malformed query fields', async () => {
    for (const path of [
      '/containers/tool?limit=0',
      '/containers/tool?limit=1001',
      '/containers/tool?limit=1e2',
      '/containers/tool?statuss=failed',
      '/containers/stats?kind=pod',
      '/sessions?limit=x',
    ]) {
      expect((await client.get(path)).status, path).toBe(400)
    }
  })

  it.each(['/containers/tool', '/containers/relic', '/containers/worker', '/containers/worker/any/exec', '/sessions'])(
    'refuse a cursor that no page of %s gave',
    async (path) => {
      for (const cursor of ['', '..', 'exec_%2F', 'exec_01900000-0000-7000-8000-000000000000%20']) {
        const { status, body } = await client.get(`${path}?cursor=${cursor}`)
        expect([status, body.code, body.errors?.[0]?.path], cursor).toEqual([400, 'validation_failed', 'cursor'])
      }
    },
  )
})

describe('requests', () => {
  it('carry their id through the answer and the log', async () => {
    const answer = await client.get('/health', { 'x-request-id': 'my-request-1' })
    expect(answer.headers.get('x-request-id')).toBe('my-request-1')
    await expect
      .poll(() =>
        service.logged().some((line) => line['request_id'] === 'my-request-1' && line['event'] === 'request.finished'),
      )
      .toBe(true)
    const bad = await client.get('/containers/tool/none', { 'x-request-id': 'a b' })
    expect(bad.body.request_id).toBe(bad.headers.get('x-request-id'))
    expect(bad.body.request_id).not.toBe('a b')
  })

  it('log one line for each run that ends', async () => {
    const run = await client.run({ command: sh('exit 9') })
    const lines = service
      .logged()
      .filter((line) => line['event'] === 'tool.finished' && line['execution_id'] === run.execution_id)
    expect(lines).toMatchObject([
      { outcome: 'failed', exit_code: 9, tool_name: 'tool', session_id: 's', duration_ms: expect.any(Number) },
    ])
  })
})

describe('builds', () => {
  it('run what a Dockerfile and its files describe, once for the same content', async () => {
    const session_id = newSession()
    const build = {
      dockerfile: `FROM ${TOOLBOX}\nCOPY app/hello.sh /hello.sh\nRUN chmod +x /hello.sh\n`,
      files: { 'app/hello.sh': '#!/bin/sh\necho built\n' },
    }
    const runs = await Promise.all([1, 2, 3].map(() => client.run({ session_id, build, command: ['/hello.sh'] })))
    expect(runs.map((run) => run.stdout)).toEqual(['built\n', 'built\n', 'built\n'])
    expect(new Set(runs.map((run) => run.image_id)).size).toBe(1)
    expect(
      service.logged().filter((line) => line['event'] === 'image.built' && line['session_id'] === session_id),
    ).toHaveLength(1)
    await client.post('/containers/cleanup/session', { session_id })
    expect(await service.engine.images.inspect(runs[0].image_id)).toBeUndefined()
  })

  it('tell a build that fails, with its cause', async () => {
    const run = await client.run({ dockerfile: `FROM ${TOOLBOX}\nRUN echo about to fail && exit 3\n` })
    expect(run).toMatchObject({ status: 'failed', failure: { code: 'build_failed' }, container_id: null })
    expect(run.failure.message).toContain('3')
    const relic = await client.post('/containers/relic/start', {
      relic_name: 'r',
      session_id: newSession(),
      dockerfile: 'FROM scratch\nNONSENSE\n',
    })
    expect([relic.status, relic.body.code]).toEqual([422, 'build_failed'])
  })
})

describe('stats', () => {
  it('sample all containers together, and answer again from memory', async () => {
    const session_id = newSession()
    const relics = await Promise.all(
      Array.from({ length: 4 }, (_, index) =>
        client.post('/containers/relic/start', {
          relic_name: `r${index}`,
          session_id,
          image: index === 0 ? TOOLBOX : HTTPD,
          ...(index === 0 ? { command: sh('while :; do :; done'), health_check_endpoint: null } : {}),
        }),
      ),
    )
    expect(relics.map(({ status }) => status)).toEqual([201, 201, 201, 201])
    const all = await client.get(`/containers/stats?session_id=${session_id}`)
    expect(all.body.items).toHaveLength(4)
    expect(all.body.totals).toMatchObject({ containers: 4, running: 4 })
    const busy = all.body.items.find((item: { id: string }) => item.id === relics[0]?.body.relic_id)
    expect(busy).toMatchObject({ kind: 'relic', status: 'running', session_id, memory_limit_mb: 1024 })
    expect(busy.cpu_percent).toBeGreaterThan(5)
    expect(busy.memory_used_mb).toBeGreaterThan(0)
    expect(busy.running_for_seconds).toBeGreaterThan(0)
    const sum = all.body.items.reduce(
      (total: number, item: { memory_used_mb: number }) => total + item.memory_used_mb,
      0,
    )
    expect(all.body.totals.memory_used_mb).toBeCloseTo(sum, 1)
    for (const id of [busy.id, busy.container_id]) {
      expect((await client.get(`/containers/stats/${id}`)).body).toMatchObject({ id: busy.id, status: 'running' })
    }
    expect((await client.get(`/containers/stats?session_id=${session_id}&kind=tool`)).body.items).toEqual([])
    const events = await client.events(`/containers/stats/${busy.id}?follow=true`, { enough: ({ id }) => id === '2' })
    expect(events.map(({ event }) => event)).toEqual(['stats', 'stats'])
    await client.post('/containers/cleanup/session', { session_id, force: true })
  })
})

describe('the service', () => {
  it('tells its health, and that of its engine', async () => {
    const health = await client.get('/health')
    expect(health.body).toMatchObject({
      status: 'healthy',
      engine: { reachable: true, name: expect.any(String) },
      counts: { tools_running: 0 },
      version: expect.any(String),
    })
    expect((await client.get('/livez')).body).toEqual({ status: 'ok' })
    expect((await client.get('/readyz')).body).toEqual({ status: 'ok' })
    expect((await client.get('/')).body.links).toMatchObject({ docs: '/docs', health: '/health' })
    const metrics = await client.get('/metrics')
    expect(metrics.text).toContain('co_http_requests_total')
    expect(metrics.text).toContain('co_containers{state="tools_running"} 0')
  })

  it('describes every route in OpenAPI, as JSON and YAML, and shows it', async () => {
    const json = (await client.get('/openapi.json')).body
    expect(json.openapi).toBe('3.1.0')
    expect(parse((await client.get('/openapi.yaml')).text)).toEqual(json)
    expect(Object.keys(json.paths)).toEqual(
      expect.arrayContaining([
        '/containers/tool/execute',
        '/containers/tool/{execution_id}/artifacts/{path}',
        '/containers/relic/start',
        '/containers/relic/{relic_id}/restart',
        '/containers/stats',
        '/containers/cleanup/session',
        '/containers/cleanup/orphans',
        '/sessions/{session_id}',
        '/health',
        '/readyz',
      ]),
    )
    expect(JSON.stringify(json)).not.toContain('Input"')
    const docs = await client.get('/docs/')
    expect(docs.status).toBe(200)
    expect(docs.text).toContain('swagger')
    expect(docs.headers.get('content-security-policy')).toContain("default-src 'self'")
  })

  it('is unhealthy, not ready and answers 503 while its engine is away', async () => {
    await using away = await startService({
      wrapEngine: (engine) =>
        new Proxy(engine, {
          get: (target, name) =>
            name === 'ping' ? () => target.networks.inspect('not an id') : Reflect.get(target, name),
        }),
    })
    const caller = new Client(away.url)
    expect((await caller.get('/health')).body).toMatchObject({
      status: 'unhealthy',
      engine: { reachable: false, error: expect.any(String) },
    })
    expect((await caller.get('/readyz')).status).toBe(503)
    expect((await caller.get('/livez')).status).toBe(200)
  })
})

describe('while the engine is away', () => {
  it('a relic is a 503 to be tried again, and a run ends as engine_unavailable', async () => {
    let away = false
    await using failing = await startService({
      wrapEngine: (engine) => ({
        containers: new Proxy(engine.containers, {
          get: (target, name) => {
            if (name === 'create' && away) {
              return async () => {
                throw new EngineError('unavailable', 'The engine could not be reached while creating a container')
              }
            }
            const member = Reflect.get(target, name)
            return typeof member === 'function' ? member.bind(target) : member
          },
        }),
        networks: engine.networks,
        images: engine.images,
        volumes: engine.volumes,
        availability: engine.availability,
        events: (labels, signal) => engine.events(labels, signal),
        connect: () => engine.connect(),
        ping: () => engine.ping(),
        halfClose: engine.halfClose,
        remembersMaking: (container) => engine.remembersMaking(container),
        close: () => engine.close(),
      }),
    })
    const caller = new Client(failing.url)
    const session_id = newSession()
    const relic = { relic_name: 'r', session_id, image: HTTPD }
    // The toolbox is made while the engine answers: what is tested is the relic's own create.
    expect((await caller.post('/containers/relic/start', relic)).status).toBe(201)
    away = true
    const refused = await caller.post('/containers/relic/start', { ...relic, relic_name: 'other' })
    expect([refused.status, refused.body.code]).toEqual([503, 'engine_unavailable'])
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    const run = await caller.run({ session_id, command: ['true'] })
    expect(run).toMatchObject({ status: 'failed', exit_code: null, failure: { code: 'engine_unavailable' } })
    away = false
    expect((await caller.run({ session_id, command: ['true'] })).status).toBe('completed')
    await caller.post('/containers/cleanup/session', { session_id, force: true })
  })
})

describe('hardening', () => {
  it('gives a tool the strict profile, as the engine and the process see it', async () => {
    const script =
      'grep -E "NoNewPrivs|CapEff|CapBnd" /proc/self/status; touch /x /bin/x 2>&1 | head -2; ls /sys/class/net; ulimit -c -n; mount | grep -c " / .*ro,"'
    const run = await client.run({ command: sh(script), cleanup: false, session_id: newSession() })
    expect(run.stdout).toContain('NoNewPrivs:\t1')
    expect(run.stdout).toContain('CapEff:\t0000000000000000')
    expect(run.stdout).toContain('CapBnd:\t0000000000000000')
    expect(run.stdout).toContain('Read-only file system')
    expect(run.stdout).toMatch(/\nlo\n/)
    expect(run.stdout).not.toContain('eth0')
    await client.post('/containers/cleanup/session', { session_id: run.session_id })
  })

  it('bounds processes', async () => {
    const run = await client.run({
      command: sh('i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; wait'),
      resource_limits: { pids_limit: 16, timeout_seconds: 10 },
    })
    expect(run.stderr).toMatch(/can't fork|Resource temporarily unavailable/)
  })
})
