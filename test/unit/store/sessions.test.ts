import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ANYONE } from '../../../src/domain/caller.ts'
import { type Database, openDatabase } from '../../../src/store/database.ts'
import { Events } from '../../../src/store/events.ts'
import { Sessions } from '../../../src/store/sessions.ts'

const UNBOUNDED = { runs: null, containers: null, memory_mb: null }

let database: Database
let sessions: Sessions

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.parse('2026-11-21T04:05:06.789Z') })
  database = await openDatabase(':memory:')
  sessions = new Sessions(database, new Events(database))
})
afterEach(async () => {
  vi.useRealTimers()
  await database.close()
})

describe('Sessions', () => {
  it('last as long as they are set to, counted from then', async () => {
    await sessions.touch('endless', ANYONE)
    const row = await sessions.renew('a', { ttl_seconds: 60, idle_timeout_seconds: null, quotas: UNBOUNDED }, ANYONE)
    expect(row).toMatchObject({ session_id: 'a', ttl_seconds: 60, expires_at: '2026-11-21T04:06:06.789Z' })
    vi.setSystemTime(Date.parse('2026-11-21T04:06:00.000Z'))
    await sessions.touch('a', ANYONE)
    expect((await sessions.get('a'))?.expires_at).toBe('2026-11-21T04:06:06.789Z')
    await sessions.renew('a', { ttl_seconds: 60, idle_timeout_seconds: 5, quotas: UNBOUNDED }, ANYONE)
    expect(await sessions.get('a')).toMatchObject({
      created_at: '2026-11-21T04:05:06.789Z',
      expires_at: '2026-11-21T04:07:00.000Z',
      idle_timeout_seconds: 5,
    })
    expect((await sessions.limited()).map(({ session_id }) => session_id)).toEqual(['a'])
    await sessions.renew('a', { ttl_seconds: null, idle_timeout_seconds: null, quotas: UNBOUNDED }, ANYONE)
    expect(await sessions.limited()).toEqual([])
  })

  it('begins a session with its first activity, and notes each later one', async () => {
    await sessions.touch('a', ANYONE)
    vi.setSystemTime(Date.parse('2026-11-21T05:00:00.000Z'))
    await sessions.touch('a', ANYONE)
    expect(await sessions.get('a')).toEqual({
      session_id: 'a',
      owner: null,
      created_at: '2026-11-21T04:05:06.789Z',
      last_activity_at: '2026-11-21T05:00:00.000Z',
      ttl_seconds: null,
      idle_timeout_seconds: null,
      expires_at: null,
      quota_runs: null,
      quota_containers: null,
      quota_memory_mb: null,
    })
    expect(await sessions.count()).toBe(1)
  })

  it('knows nothing of a session that was never touched', async () => {
    expect(await sessions.get('a')).toBeUndefined()
    expect(await sessions.list({})).toEqual({ items: [], next_cursor: null })
    expect(await sessions.count()).toBe(0)
  })

  it('lists by id, in pages that miss and repeat nothing', async () => {
    for (const id of ['c', 'a', 'e', 'b', 'd']) await sessions.touch(id, ANYONE)
    const first = await sessions.list({ limit: 2 })
    expect(first).toMatchObject({ items: [{ session_id: 'a' }, { session_id: 'b' }], next_cursor: 'b' })
    const second = await sessions.list({ limit: 2, cursor: 'b' })
    expect(second).toMatchObject({ items: [{ session_id: 'c' }, { session_id: 'd' }], next_cursor: 'd' })
    const third = await sessions.list({ limit: 2, cursor: 'd' })
    expect(third.items.map(({ session_id }) => session_id)).toEqual(['e'])
    expect(third.next_cursor).toBeNull()
  })

  it('lists 100 where no limit is given', async () => {
    for (let count = 100; count <= 200; count++) await sessions.touch(`s${count}`, ANYONE)
    const page = await sessions.list({})
    expect([page.items.length, page.next_cursor]).toEqual([100, 's199'])
  })

  it('forgets a session that is removed, and spares the others', async () => {
    await sessions.touch('a', ANYONE)
    await sessions.touch('b', ANYONE)
    await sessions.remove('a')
    await sessions.remove('a')
    expect(await sessions.get('a')).toBeUndefined()
    expect(await sessions.count()).toBe(1)
  })
})
