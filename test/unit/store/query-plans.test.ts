import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { ANYONE, type Caller } from '../../../src/domain/caller.ts'
import { Database, openDatabase } from '../../../src/store/database.ts'
import { Events } from '../../../src/store/events.ts'
import { IdempotencyKeys } from '../../../src/store/idempotency-keys.ts'
import { Ownership } from '../../../src/store/ownership.ts'
import { Records } from '../../../src/store/records.ts'
import { SessionTokens } from '../../../src/store/session-tokens.ts'
import { Sessions } from '../../../src/store/sessions.ts'

/** Statements, with what they were given. */
const asked = new Map<string, unknown[]>()

const AGENT: Caller = { ...ANYONE, owner: 'acme', keyId: 'k', role: 'agent', reach: 'own' }
const view = { owner: 'acme' }
const inSession = { owner: 'acme', session: 's' }
const SETTINGS = {
  ttl_seconds: 1,
  idle_timeout_seconds: 1,
  quotas: { runs: null, containers: null, memory_mb: null },
}

const TABLE = /^SCAN (records|events|sessions|idempotency_keys|session_tokens)\b/
/** Has the sessions alone that end by themselves. */
const SMALL_INDEX = 'USING INDEX sessions_limited'

let database: Database

/** Everything that the store asks of its database, once. */
beforeAll(async () => {
  database = await openDatabase(':memory:')
  for (const method of ['all', 'first', 'run'] as const) {
    const real = Database.prototype[method] as (sql: string, ...values: unknown[]) => unknown
    vi.spyOn(Database.prototype, method).mockImplementation(function (this: Database, sql: string, ...values) {
      asked.set(sql, values)
      return real.call(this, sql, ...values) as never
    })
  }
  const events = new Events(database)
  const records = new Records<object, object>(database, 'tool', events)
  const sessions = new Sessions(database, events)
  const entry = {
    ...{ id: 'exec_1', sessionId: 's', owner: 'acme', name: 'n', status: 'queued', live: true },
    ...{ containerId: null, nonce: 'n', request: {}, view: {} },
  }
  await sessions.touch('s', { ...AGENT, limits: { sessions: 1 } })
  await sessions.renew('s', SETTINGS, AGENT)
  await sessions.noteActivity('s')
  await sessions.limited()
  for (const of of [undefined, view, inSession]) {
    await sessions.list({ view: of })
    await sessions.list({ view: of, cursor: 'a' })
  }
  await records.insert(entry)
  await records.update({ ...entry, status: 'running', containerId: 'c' })
  await records.update({ ...entry, status: 'completed', live: false })
  await records.get('exec_1')
  await records.endedJson('exec_1')
  await records.newestId()
  await records.find('n')
  await records.find('n', 'deleted')
  for (const filter of [
    {},
    { session_id: 's' },
    { status: 'failed' },
    { name: 'n' },
    { name: 'n', exceptStatus: 'x' },
  ]) {
    for (const of of [undefined, view, inSession]) {
      await records.list({ ...filter, view: of })
      await records.list({ ...filter, view: of, cursor: 'exec_1' })
    }
  }
  await records.endedBefore('exec', new Date(), 100)
  await records.releaseKept(new Set())
  await records.live()
  await records.requestNumbers('queued', { priority: '$.priority' })
  await records.count({ session_id: 's' })
  await records.count({ session_id: 's', view })
  await records.count({ session_id: 's', exceptStatus: 'deleted' })
  await records.remove('exec_2')
  const ownership = new Ownership(database)
  for (const kind of ['session', 'tool', 'relic', 'worker', 'exec', 'container'] as const) {
    await ownership.of(kind, 'x')
    await ownership.of(kind, 'x', true)
  }
  await ownership.visible(AGENT, ['exec_1'])
  const keys = new IdempotencyKeys(database)
  await keys.claim({ key: 'k', digest: 'd', resource: 'r' })
  await keys.release('k')
  await keys.expire(new Date())
  const tokens = new SessionTokens(database)
  await tokens.find('t')
  await tokens.revoke('t')
  await tokens.removeOfSession('s')
  await tokens.expire(new Date())
  await events.last()
  await events.first()
  for (let count = 0; count < 1_001; count++) events.told()
  for (const of of [undefined, view, inSession]) {
    for (const session_id of [undefined, 's']) {
      const stop = new AbortController()
      const following = events.follow(0, { session_id, view: of }, stop.signal)
      await following.next()
      stop.abort()
      await following.return(undefined)
    }
  }
  await sessions.remove('s')
  vi.restoreAllMocks()
})
afterAll(() => database.close())

function planOf(sql: string, values: unknown[]): string[] {
  const rows = database.all<{ detail: string }>(`explain query plan ${sql}`, ...(values as string[]))
  return rows.map(({ detail }) => detail)
}

/** Whether it looks at every row of a table, and not at those of one page in their order. */
function readsAll(sql: string, plan: readonly string[]): boolean {
  const scans = plan.filter((step) => TABLE.test(step) && !step.includes(SMALL_INDEX))
  const isPage = /order by .* limit/.test(sql) && !plan.some((step) => step.includes('TEMP B-TREE'))
  return scans.length > 0 && !isPage
}

describe('what the store asks of its database', () => {
  it('was seen', () => {
    expect(asked.size).toBeGreaterThan(50)
  })

  it('reads no table as a whole', () => {
    const whole = [...asked].filter(([sql, values]) => readsAll(sql, planOf(sql, values))).map(([sql]) => sql)
    expect(whole).toEqual([])
  })

  it('finds what is of one session by its session, whatever else is asked for', () => {
    const ofSession = [...asked].filter(([sql]) =>
      /^select .* from records where kind = \? and session_id = /.test(sql),
    )
    expect(ofSession.length).toBeGreaterThan(10)
    const others = ofSession.filter(([sql, values]) => !planOf(sql, values).join().includes('records_by_session'))
    expect(others.map(([sql]) => sql)).toEqual([])
  })

  it('sorts nothing but what it found by an index', () => {
    const sorted = [...asked].filter(([sql, values]) =>
      planOf(sql, values).some((step) => step.includes('TEMP B-TREE')),
    )
    expect(sorted.map(([sql]) => sql)).toEqual([])
  })
})
