import { pino } from 'pino'
import { expect, it, vi } from 'vitest'
import { ANYONE } from '../../../src/domain/caller.ts'
import type { SessionManager } from '../../../src/managers/session-manager.ts'
import { SessionReaper, type SessionReaperOptions } from '../../../src/managers/session-reaper.ts'
import { Store } from '../../../src/store/store.ts'
import { temporaryFolder } from '../support/folders.ts'

const UNBOUNDED = { runs: null, containers: null, memory_mb: null }
const lasting = (ttl_seconds: number) => ({ ttl_seconds, idle_timeout_seconds: null, quotas: UNBOUNDED })

it('ends no session that was renewed while others were cleaned up', async () => {
  const store = await Store.open(await temporaryFolder())
  const ids = Array.from({ length: 20 }, (_, number) => `s${String(number).padStart(2, '0')}`)
  for (const id of ids) await store.sessions.renew(id, lasting(1), ANYONE)
  const last = ids.at(-1) ?? ''
  const cleanup = vi.fn(async (id: string) => {
    await store.sessions.remove(id)
    await store.sessions.renew(last, lasting(3600), ANYONE)
    return { errors: [] }
  })
  const nothing = { activeIn: () => [], isUsedIn: () => false }
  const reaper = new SessionReaper({
    store,
    sessions: { cleanup } as unknown as SessionManager,
    tools: nothing,
    relics: nothing,
    workers: nothing,
    log: pino({ level: 'silent' }),
  } as unknown as SessionReaperOptions)
  await reaper.reap(2_000)
  expect(cleanup.mock.calls.map(([id]) => id).toSorted()).toEqual(ids.slice(0, -1))
  expect(await store.sessions.get(last)).toBeDefined()
  await store.close()
})
