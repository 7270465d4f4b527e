import { afterEach, expect, it } from 'vitest'
import type { AuditEntry } from '../../../src/audit/audit-line.ts'
import { type Caller, SCOPES } from '../../../src/domain/caller.ts'
import { AppError } from '../../../src/errors.ts'
import { type MemoryService, startMemoryService } from '../../fixtures/memory-service.ts'

const CALLERS: Record<string, Caller> = {
  anna: {
    owner: 'anna',
    keyId: 'key-of-anna',
    role: 'agent',
    scopes: new Set(['run', 'relic']),
    reach: 'own',
    limits: { requestsPerMinute: 20 },
  },
  bert: { owner: 'bert', keyId: 'key-of-bert', role: 'ops', scopes: new Set(SCOPES), reach: 'all', limits: {} },
}
const RUN = {
  tool_name: 'echo',
  session_id: 'annas',
  image: 'container-orchestrator/toolbox:1',
  command: ['echo', 's3cret'],
  environment: { TOKEN: 's3cret' },
}

let service: MemoryService
let lines: AuditEntry[]
let fails = false

async function start() {
  lines = []
  fails = false
  service = await startMemoryService({
    keys: { authenticate: async (bearer) => CALLERS[bearer] },
    auditLog: {
      async append(entry) {
        if (fails) throw new AppError('audit_unavailable', 'the disk is full', { retryAfterSeconds: 5 })
        lines.push(entry)
      },
    },
  })
}
afterEach(() => service[Symbol.asyncDispose]())

const call = (key: string, method: string, url: string, body?: object) =>
  service.call(method, url, body, { authorization: `Bearer ${key}`, 'x-request-id': `id-${method}` })

it('tells of a change before it is made, and how it ended', async () => {
  await start()
  const { status, body } = await call('anna', 'POST', '/containers/tool/execute?x=s3cret', RUN)
  expect([status, body.errors?.[0]?.path]).toEqual([200, undefined])
  expect(lines).toEqual([
    {
      key_id: 'key-of-anna',
      token_id: null,
      owner: 'anna',
      role: 'agent',
      session: null,
      route: 'executeTool',
      method: 'POST',
      resource: '/containers/tool/execute',
      decision: 'allow',
      rule: null,
      status: null,
      request_id: 'id-POST',
    },
    expect.objectContaining({ decision: 'allow', status: 200 }),
  ])
  expect(JSON.stringify(lines)).not.toContain('s3cret')
})

it('tells of each refusal by what decided it, and of no reading', async () => {
  await start()
  const rules = async (...given: Parameters<typeof call>) => {
    lines.length = 0
    await call(...given)
    return lines.map(({ decision, rule, status }) => [decision, rule, status])
  }
  await call('anna', 'PUT', '/sessions/annas', {})
  await call('bert', 'PUT', '/sessions/berts', {})
  expect(await rules('anna', 'GET', '/sessions')).toEqual([])
  expect(await rules('nobody', 'GET', '/sessions')).toEqual([['deny', 'key', null]])
  expect(await rules('anna', 'POST', '/containers/cleanup/orphans', {})).toEqual([['deny', 'role', null]])
  expect(await rules('anna', 'GET', '/sessions/berts')).toEqual([['deny', 'ownership', null]])
  expect(await rules('anna', 'POST', '/containers/tool/execute', { ...RUN, profile: 'none' })).toEqual([
    ['allow', null, null],
    ['deny', 'policy_denied:profile', null],
    ['allow', null, 403],
  ])
  lines.length = 0
  for (let count = 0; count < 20; count++) await call('anna', 'GET', '/sessions')
  expect(lines.map(({ decision, rule, status }) => [decision, rule, status])).toEqual([['deny', 'rate_limit', null]])
})

it('changes nothing where it cannot be written, and refuses as before', async () => {
  await start()
  fails = true
  const refused = await call('anna', 'POST', '/containers/tool/execute', RUN)
  expect([refused.status, refused.body.code]).toEqual([503, 'audit_unavailable'])
  expect((await call('anna', 'GET', '/sessions')).body.items).toEqual([])
  expect((await call('nobody', 'GET', '/sessions')).status).toBe(401)
  fails = false
  expect((await call('anna', 'POST', '/containers/tool/execute', RUN)).status).toBe(200)
})

it('is not filled by callers that nobody knows', async () => {
  await start()
  for (let count = 0; count < 200; count++) await call('nobody', 'GET', '/sessions')
  expect(lines.length).toBe(60)
})

it('is not filled by callers under a wrong name, on whatever route', async () => {
  await start()
  for (const url of ['/livez', '/sessions', '/nothing/here'])
    for (let count = 0; count < 60; count++) await service.call('GET', url, undefined, { host: 'evil.example.org' })
  expect(lines.length).toBe(60)
})

it('is not filled by a key beyond its rate limit, nor by what it may not do', async () => {
  await start()
  for (let count = 0; count < 60; count++) await call('anna', 'POST', '/containers/cleanup/orphans', {})
  const counts = (rule: string) => lines.filter((line) => line.rule === rule).length
  expect([counts('role'), counts('rate_limit')]).toEqual([20, 1])
})
