import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Caller, type Role, SCOPES, type Scope } from '../../../src/domain/caller.ts'
import { type Answer, type MemoryService, startMemoryService } from '../../fixtures/memory-service.ts'

const AGENT_SCOPES: Scope[] = ['run', 'relic', 'worker', 'exec', 'files', 'stats']
const agent = (owner: string, fields: Partial<Caller> = {}): Caller => ({
  owner,
  keyId: owner,
  role: 'agent' as Role,
  scopes: new Set(AGENT_SCOPES),
  reach: 'own',
  limits: {},
  ...fields,
})

const CALLERS: Record<string, Caller> = {
  anna: agent('anna'),
  bert: agent('bert'),
  service: agent('service', { role: 'service', scopes: new Set([...AGENT_SCOPES, 'build']) }),
  token: agent('anna', { session: 'annas', tokenId: 'token' }),
  othersToken: agent('anna', { session: 'annas-third', tokenId: 'others-token' }),
  stale: agent('anna', { session: 'gone' }),
  small: agent('small', { limits: { sessions: 1, runs: 1, containers: 2 } }),
  hastyToken: agent('hasty', { session: 'hastys', tokenId: 'hasty-token', limits: { requestsPerMinute: 3 } }),
  hasty: agent('hasty', { limits: { requestsPerMinute: 3 } }),
  patient: agent('patient'),
  ops: agent('ops', { role: 'ops', scopes: new Set(SCOPES), reach: 'all' }),
  cleanup: agent('cleanup', { role: 'cleanup', scopes: new Set<Scope>(['cleanup']), reach: 'all' }),
  metrics: agent('metrics', { role: 'metrics', scopes: new Set<Scope>(['metrics']), reach: 'all' }),
}

let service: MemoryService
beforeAll(async () => {
  service = await startMemoryService({
    keys: { authenticate: async (bearer) => CALLERS[bearer] },
  })
})
afterAll(() => service[Symbol.asyncDispose]())

const as = (key: string) => (method: string, url: string, body?: object) =>
  service.call(method, url, body, { authorization: `Bearer ${key}` })
const [anna, bert, ops] = [as('anna'), as('bert'), as('ops')]

const TOOLBOX = 'container-orchestrator/toolbox:1'
const run = (session_id: string, fields: object = {}) => ({
  tool_name: 'echo',
  session_id,
  image: TOOLBOX,
  command: ['echo', 'hi'],
  ...fields,
})
const codeOf = ({ status, body }: Answer) => [status, body.code]

describe('who calls', () => {
  it('is asked for a key by everything but the public routes', async () => {
    const refused = await service.call('GET', '/sessions')
    expect(codeOf(refused)).toEqual([401, 'unauthenticated'])
    expect(refused.headers['www-authenticate']).toContain('Bearer')
    expect(codeOf(await service.call('GET', '/no/such/route'))).toEqual([401, 'unauthenticated'])
    for (const url of ['/', '/livez', '/readyz', '/openapi.json', '/docs/']) {
      expect((await service.call('GET', url)).status).toBe(200)
    }
  })

  it.each([
    ['an unknown key', 'Bearer nobody'],
    ['another scheme', 'Basic YW5uYTo='],
    ['two words', 'Bearer anna bert'],
    ['no word', 'Bearer '],
    ['a key alone', 'anna'],
  ])('is not known by %s', async (_name, authorization) => {
    expect(codeOf(await service.call('GET', '/sessions', undefined, { authorization }))).toEqual([
      401,
      'unauthenticated',
    ])
  })

  it('does not tell its key by the URL', async () => {
    expect((await service.call('GET', '/sessions?access_token=anna')).status).toBe(401)
  })

  it('may do what its scopes say, and is told which one it lacks', async () => {
    for (const [method, url] of [
      ['POST', '/containers/cleanup/orphans'],
      ['POST', '/containers/cleanup/all-networks'],
      ['GET', '/metrics'],
    ] as const) {
      const refused = await anna(method, url, method === 'POST' ? {} : undefined)
      expect(codeOf(refused)).toEqual([403, 'forbidden'])
      expect(refused.body.detail).toMatch(/scope (cleanup|metrics)/)
    }
    expect((await as('metrics')('GET', '/metrics')).status).toBe(200)
    expect(codeOf(await as('metrics')('GET', '/sessions'))).toEqual([403, 'forbidden'])
    expect(codeOf(await as('cleanup')('POST', '/containers/tool/execute', run('x')))).toEqual([403, 'forbidden'])
    expect((await as('cleanup')('POST', '/containers/cleanup/orphans', { dry_run: true })).status).toBe(200)
  })

  it('may build images with that scope alone', async () => {
    const { image: _, ...built } = run('build', { dockerfile: 'FROM scratch\n' })
    expect(codeOf(await anna('POST', '/containers/tool/execute', built))).toEqual([403, 'forbidden'])
    const { status, body } = await as('service')('POST', '/containers/tool/execute', built)
    expect([status, body.code]).not.toEqual([403, 'forbidden'])
  })
})

describe("what is another's", () => {
  const WORKER = { worker_id: 'annas-worker', session_id: 'annas', image: TOOLBOX, command: ['sleep', '60'] }
  let runId: string
  let relicId: string

  beforeAll(async () => {
    const made = await anna('POST', '/containers/tool/execute', run('annas'))
    expect(made.status).toBe(200)
    expect(made.body.created_by).toBe('anna')
    runId = made.body.execution_id
    const relic = await anna('POST', '/containers/relic/start', {
      relic_name: 'db',
      session_id: 'annas',
      image: TOOLBOX,
      command: ['sleep', '60'],
      health_check_endpoint: null,
    })
    expect(relic.status).toBe(201)
    relicId = relic.body.relic_id
    expect((await anna('POST', '/containers/worker/start', WORKER)).status).toBe(201)
  })

  it('is told exactly as what there is not', async () => {
    const calls = [
      ['GET', '/containers/tool/ID', runId],
      ['POST', '/containers/tool/ID/cancel', runId],
      ['GET', '/containers/tool/ID/logs', runId],
      ['GET', '/containers/tool/ID/artifacts', runId],
      ['GET', '/containers/tool/ID/artifacts/result.json', runId],
      ['GET', '/containers/relic/ID', relicId],
      ['POST', '/containers/relic/ID/stop', relicId],
      ['POST', '/containers/relic/ID/restart', relicId],
      ['DELETE', '/containers/relic/ID', relicId],
      ['GET', '/containers/relic/ID/health', relicId],
      ['GET', '/containers/worker/ID', 'annas-worker'],
      ['DELETE', '/containers/worker/ID', 'annas-worker'],
      ['POST', '/containers/worker/ID/stop', 'annas-worker'],
      ['GET', '/containers/worker/ID/files', 'annas-worker'],
      ['GET', '/containers/worker/ID/exec', 'annas-worker'],
      ['GET', '/containers/stats/ID', runId],
      ['GET', '/containers/stats/ID', 'annas-worker'],
      ['GET', '/sessions/ID', 'annas'],
    ] as const
    for (const [method, url, id] of calls) {
      const absentId = `${id.slice(0, -1)}~`.replace('~', id.endsWith('0') ? '1' : '0')
      const foreign = await bert(method, url.replace('ID', id))
      const absent = await bert(method, url.replace('ID', absentId))
      expect([url, foreign.status]).toEqual([url, 404])
      const text = (answer: Answer, named: string) =>
        JSON.stringify({ ...answer.body, request_id: '' }).replaceAll(named, 'ID')
      expect(text(foreign, id)).toBe(text(absent, absentId))
    }
    expect((await anna('GET', `/containers/relic/${relicId}`)).body.status).toBe('healthy')
    expect((await anna('GET', '/containers/worker/annas-worker')).body.status).toBe('running')
  })

  it('can be neither joined, renewed, cleaned up nor replaced', async () => {
    const attempts: [string, string, object?][] = [
      ['POST', '/containers/tool/execute', run('annas')],
      [
        'POST',
        '/containers/relic/start',
        { relic_name: 'x', session_id: 'annas', image: TOOLBOX, health_check_endpoint: null },
      ],
      ['POST', '/containers/worker/start', { ...WORKER, session_id: undefined }],
      ['POST', '/containers/worker/start', { ...WORKER, worker_id: 'berts-worker' }],
      ['POST', '/containers/worker/annas-worker/ensure', { image: TOOLBOX }],
      ['PUT', '/sessions/annas', { ttl_seconds: 1 }],
      ['DELETE', '/sessions/annas'],
      ['POST', '/containers/cleanup/session', { session_id: 'annas', force: true }],
    ]
    for (const [method, url, body] of attempts) {
      expect([url, ...codeOf(await bert(method, url, body))]).toEqual([url, 404, 'not_found'])
    }
    expect((await anna('GET', '/sessions/annas')).body.relics).toHaveLength(1)
  })

  it('is looked at again when it is acted on: names may have changed hands', async () => {
    const { workers, execs, files, workerHealth, sessions } = service.services
    const stranger = CALLERS['bert'] as Caller
    const name = 'annas-worker'
    const { signal } = new AbortController()
    const acts: (() => Promise<unknown>)[] = [
      () => workers.get(name, stranger),
      () => workers.stop(name, 0, stranger),
      () => workers.restart(name, stranger),
      () => workers.pause(name, stranger),
      () => workers.resume(name, stranger),
      () => workers.snapshot(name, 'theirs', stranger),
      () => workers.remove(name, { caller: stranger }),
      () => execs.list(name, {}, stranger),
      () => files.list(name, '.', signal, stranger),
      () => files.read(name, 'x', signal, stranger),
      () => workerHealth.health(name, stranger),
      () => workerHealth.stats(name, stranger),
      () => sessions.cleanup('annas', { force: true, dryRun: false, caller: stranger }),
    ]
    for (const act of acts) await expect(act(), String(act)).rejects.toMatchObject({ code: 'not_found' })
    expect((await anna('GET', `/containers/worker/${name}`)).body.status).toBe('running')
  })

  it('is in no list, sum or event', async () => {
    await bert('POST', '/containers/tool/execute', run('berts'))
    for (const url of ['/containers/tool', '/containers/relic', '/containers/worker', '/sessions']) {
      const { body } = await bert('GET', url)
      expect(JSON.stringify(body)).not.toContain('annas')
      expect(JSON.stringify((await anna('GET', url)).body)).toContain('annas')
    }
    expect((await bert('GET', '/containers/worker')).body.running).toBe(0)
    const stats = (await bert('GET', '/containers/stats')).body
    expect([stats.items, stats.totals.containers]).toEqual([[], 0])
    expect((await anna('GET', '/containers/stats')).body.items).toHaveLength(2)
    expect((await bert('GET', '/containers/stats?session_id=annas')).body.items).toEqual([])
    const told = await eventsOf('bert')
    expect(told).toContain('berts')
    expect(told).not.toContain('annas')
  })

  it("is everything to operators, and stays its owner's", async () => {
    const made = await ops('POST', '/containers/tool/execute', run('annas'))
    expect(made.status).toBe(200)
    expect((await anna('GET', `/containers/tool/${made.body.execution_id}`)).status).toBe(200)
    expect((await ops('GET', '/containers/worker/annas-worker')).status).toBe(200)
    expect((await ops('GET', '/containers/stats')).body.items).toHaveLength(2)
  })

  it('is, for a session token, all outside its session', async () => {
    await anna('POST', '/containers/tool/execute', run('annas-other'))
    const token = as('token')
    expect((await token('GET', '/sessions')).body.items.map((one: { session_id: string }) => one.session_id)).toEqual([
      'annas',
    ])
    expect((await token('GET', `/containers/tool/${runId}`)).status).toBe(200)
    // What its session may have is set by whoever gave the token out.
    expect(codeOf(await token('PUT', '/sessions/annas', {}))).toEqual([403, 'forbidden'])
    expect((await token('POST', '/containers/tool/execute', run('annas'))).status).toBe(200)
    for (const session of ['annas-other', 'berts', 'new']) {
      expect(codeOf(await token('POST', '/containers/tool/execute', run(session)))).toEqual([404, 'not_found'])
      expect((await token('GET', `/containers/tool?session_id=${session}`)).body.items).toEqual([])
    }
    expect(codeOf(await as('stale')('POST', '/containers/tool/execute', run('gone')))).toEqual([404, 'not_found'])
  })

  it('is no image to start from, by name or id, nor to build on', async () => {
    const image = 'container-orchestrator/snapshot:annas'
    const worker = (worker_id: string, fields: object = {}) => ({
      worker_id,
      image,
      command: ['sleep', '60'],
      ...fields,
    })
    expect((await anna('POST', '/containers/worker/start', worker('annas-model', { image: TOOLBOX }))).status).toBe(201)
    const snapshot = await anna('POST', '/containers/worker/annas-model/snapshot', { name: 'annas' })
    expect([snapshot.status, snapshot.body.image]).toEqual([201, image])
    expect((await anna('POST', '/containers/worker/start', worker('annas-copy'))).status).toBe(201)
    expect((await anna('POST', '/containers/tool/execute', run('annas', { image }))).body.status).toBe('completed')
    for (const named of [image, snapshot.body.image_id]) {
      const stolen = await bert('POST', '/containers/worker/start', worker('thief', { image: named }))
      expect(codeOf(stolen), named).toEqual([422, 'image_not_found'])
      const ran = await bert('POST', '/containers/tool/execute', run('berts-theft', { image: named }))
      expect(ran.body, named).toMatchObject({ status: 'failed', failure: { code: 'image_not_found' } })
    }
    const build = (dockerfile: string) =>
      as('service')('POST', '/containers/tool/execute', { tool_name: 'b', session_id: 'builds', dockerfile })
    expect((await build(`FROM ${image}`)).body).toMatchObject({ failure: { code: 'image_not_found' } })
    expect((await build(`FROM ${TOOLBOX}\nCOPY --from=${image} / /`)).body).toMatchObject({
      failure: { code: 'image_not_found' },
    })
    expect((await build(`ARG B=${image}\nFROM $B`)).body).toMatchObject({ failure: { code: 'build_failed' } })
    expect((await build(`FROM ${TOOLBOX}`)).body.status).toBe('completed')
    for (const name of ['annas-model', 'annas-copy']) {
      await anna('POST', `/containers/worker/${name}/stop`, { timeout_seconds: 0 })
      await anna('DELETE', `/containers/worker/${name}`)
    }
  })

  it('is a worker whose name the caller had before, also while it starts', async () => {
    const worker = { worker_id: 'handed-on', image: TOOLBOX, command: ['sleep', '60'] }
    expect((await anna('POST', '/containers/worker/start', worker)).status).toBe(201)
    await anna('POST', '/containers/worker/handed-on/stop', { timeout_seconds: 0 })
    for (let time = 0; time < 2; time++) expect((await anna('DELETE', '/containers/worker/handed-on')).status).toBe(204)
    const starting = bert('POST', '/containers/worker/start', worker)
    const calls: Promise<Answer>[] = []
    for (let count = 0; count < 40; count++) {
      calls.push(anna('POST', '/containers/worker/handed-on/pause', {}))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect((await starting).status).toBe(201)
    expect(new Set((await Promise.all(calls)).map(({ status }) => status))).toEqual(new Set([404]))
    expect((await bert('GET', '/containers/worker/handed-on')).body.status).toBe('running')
    await bert('POST', '/containers/worker/handed-on/stop', { timeout_seconds: 0 })
    expect((await bert('DELETE', '/containers/worker/handed-on')).status).toBe(204)
  })

  it('is, for a session token, a worker beside its session', async () => {
    const beside = { worker_id: 'beside', image: TOOLBOX, command: ['sleep', '60'] }
    const refused = await as('token')('POST', '/containers/worker/start', beside)
    expect([refused.status, refused.body.errors[0].path]).toEqual([400, 'session_id'])
    const ensured = await as('token')('POST', '/containers/worker/beside/ensure', { ...beside, worker_id: undefined })
    expect([ensured.status, ensured.body.errors[0].path]).toEqual([400, 'session_id'])
    expect((await anna('GET', '/containers/worker/beside')).status).toBe(404)
  })

  it('stays out of a session of the same name that another begins later', async () => {
    expect((await anna('POST', '/containers/tool/execute', run('handed-on'))).status).toBe(200)
    expect((await anna('DELETE', '/sessions/handed-on')).status).toBe(200)
    expect((await bert('PUT', '/sessions/handed-on', {})).body.tools.total).toBe(0)
    expect((await bert('POST', '/containers/tool/execute', run('handed-on', { tool_name: 'berts' }))).status).toBe(200)
    const { body } = await bert('GET', '/sessions/handed-on')
    expect(body.tools.map((tool: { tool_name: string }) => tool.tool_name)).toEqual(['berts'])
  })

  it('has, for session tokens of one owner, idempotency keys of its own', async () => {
    await anna('PUT', '/sessions/annas-third', {})
    const keyed = (key: string, session: string) =>
      service.call('POST', '/containers/tool/execute', run(session), {
        authorization: `Bearer ${key}`,
        'idempotency-key': 'of-tokens',
      })
    expect((await keyed('token', 'annas')).status).toBe(200)
    expect((await keyed('othersToken', 'annas-third')).status).toBe(200)
  })

  it('has idempotency keys of its own', async () => {
    const keyed = (key: string, session: string) =>
      service.call('POST', '/containers/tool/execute', run(session), {
        authorization: `Bearer ${key}`,
        'idempotency-key': 'same',
      })
    const [first, other, again] = [
      await keyed('anna', 'annas'),
      await keyed('bert', 'berts'),
      await keyed('anna', 'annas'),
    ]
    expect([first.status, other.status]).toEqual([200, 200])
    expect(other.body.execution_id).not.toBe(first.body.execution_id)
    expect(again.body.execution_id).toBe(first.body.execution_id)
  })

  async function eventsOf(key: string): Promise<string> {
    let told = ''
    const answer = await service.app.inject({
      url: '/events?after=0',
      headers: { authorization: `Bearer ${key}`, host: 'localhost' },
      payloadAsStream: true,
    })
    const stream = answer.stream()
    await new Promise<void>((resolve) => {
      stream.on('data', (chunk: Buffer) => {
        told += chunk.toString()
        if (told.includes('tool.completed')) resolve()
      })
    })
    stream.destroy()
    return told
  }
})

describe('what a key may have at once', () => {
  it('is bounded over all its sessions', async () => {
    const small = as('small')
    const long = (session: string) => run(session, { command: ['sleep', '30'], wait: false })
    expect((await small('POST', '/containers/tool/execute', long('only'))).status).toBe(202)
    expect(codeOf(await small('POST', '/containers/tool/execute', long('only')))).toEqual([429, 'quota_exceeded'])
    expect(codeOf(await small('PUT', '/sessions/second', {}))).toEqual([429, 'quota_exceeded'])
    const worker = (worker_id: string) => ({ worker_id, image: TOOLBOX, command: ['sleep', '30'] })
    expect((await small('POST', '/containers/worker/start', worker('one'))).status).toBe(201)
    expect(codeOf(await small('POST', '/containers/worker/start', worker('two')))).toEqual([429, 'quota_exceeded'])
    expect((await small('DELETE', '/sessions/only?force=true')).status).toBe(200)
    expect((await small('POST', '/containers/worker/start', worker('two'))).status).toBe(201)
  })
})

describe('how often a key may call', () => {
  it('is bounded for each key by itself, and told with the time to wait', async () => {
    const often = async (key: string) => {
      const answers = []
      for (let call = 0; call < 4; call++) answers.push(await as(key)('GET', '/sessions'))
      return answers
    }
    const answers = await often('hasty')
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 429])
    expect(answers[3]?.body.code).toBe('rate_limited')
    expect(Number(answers[3]?.headers['retry-after'])).toBeGreaterThan(0)
    expect((await often('patient')).map(({ status }) => status)).toEqual([200, 200, 200, 200])
    // A token of the same key has calls of its own.
    expect((await often('hastyToken')).map(({ status }) => status)).toEqual([200, 200, 200, 429])
  })
})
