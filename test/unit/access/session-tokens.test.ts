import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { reachOf, scopesOf } from '../../../src/access/roles.ts'
import { SessionTokenDesk } from '../../../src/access/session-tokens.ts'
import type { Caller, Role } from '../../../src/domain/caller.ts'
import { type Database, openDatabase } from '../../../src/store/database.ts'
import { SessionTokens } from '../../../src/store/session-tokens.ts'
import { rejection } from '../support/streams.ts'

const NOW = new Date('2026-11-21T00:00:00.000Z')
const WORK = ['run', 'relic', 'worker', 'exec', 'files', 'stats']

const callerOf = (role: Role, part: Partial<Caller> = {}): Caller => ({
  owner: 'acme',
  keyId: 'acmekey00001',
  role,
  scopes: new Set(scopesOf(role)),
  reach: reachOf(role),
  limits: { pids: 5 },
  ...part,
})
const SERVICE = callerOf('service')

let database: Database
let tokens: SessionTokens
let keys: Map<string, Caller>
let now: Date
let desk: SessionTokenDesk

beforeEach(async () => {
  database = await openDatabase(':memory:')
  tokens = new SessionTokens(database)
  keys = new Map([['acmekey00001', SERVICE]])
  now = NOW
  desk = new SessionTokenDesk(tokens, { callerOf: (id) => keys.get(id) }, () => now)
})
afterEach(() => database.close())

const forbidden = expect.objectContaining({ code: 'forbidden' })

describe('a session token', () => {
  it('calls for one session, with the limits of the key that made it, for an hour', async () => {
    const minted = await desk.mint({ caller: SERVICE, session: 'walk' })
    expect(minted).toEqual({
      id: expect.stringMatching(/^[a-z0-9]{12}$/),
      token: expect.stringMatching(`^cos_${minted.id}_[A-Za-z0-9_-]{43}$`),
      scopes: WORK,
      expires_at: '2026-11-21T01:00:00.000Z',
    })
    expect(await desk.authenticate(minted.token)).toEqual({
      owner: 'acme',
      keyId: 'acmekey00001',
      tokenId: minted.id,
      role: 'agent',
      scopes: new Set(WORK),
      session: 'walk',
      reach: 'own',
      limits: { pids: 5 },
    })
  })

  it('is kept as a digest alone', async () => {
    const { id, token } = await desk.mint({ caller: SERVICE, session: 'walk' })
    expect(JSON.stringify(await tokens.find(id))).not.toContain(token.slice(-43))
  })

  it('ends at its time, within a day', async () => {
    const { token } = await desk.mint({ caller: SERVICE, session: 'walk', ttlSeconds: 86_400 })
    now = new Date('2026-11-21T23:59:59.999Z')
    expect(await desk.authenticate(token)).toBeDefined()
    now = new Date('2026-11-22T00:00:00.000Z')
    expect(await desk.authenticate(token)).toBeUndefined()
    for (const ttlSeconds of [0, -1, 0.5, 86_401, Number.NaN])
      expect(await rejection(desk.mint({ caller: SERVICE, session: 'walk', ttlSeconds }))).toBeInstanceOf(RangeError)
  })

  it('has the scopes that were asked for, and none that its maker has not', async () => {
    const { token, scopes } = await desk.mint({ caller: SERVICE, session: 'walk', scopes: ['files', 'run'] })
    expect(scopes).toEqual(['run', 'files'])
    expect((await desk.authenticate(token))?.scopes).toEqual(new Set(['run', 'files']))
    const narrow = callerOf('service', { scopes: new Set(['run', 'build']) })
    expect((await desk.mint({ caller: narrow, session: 'walk' })).scopes).toEqual(['run'])
    expect(await rejection(desk.mint({ caller: narrow, session: 'walk', scopes: ['exec'] }))).toEqual(forbidden)
    for (const scope of ['build', 'admin', 'cleanup', 'metrics'] as const) {
      const mint = desk.mint({ caller: callerOf('ops'), session: 'walk', scopes: [scope] })
      expect(await rejection(mint), scope).toEqual(forbidden)
    }
  })

  it('is made by services and operators, with a key', async () => {
    for (const role of ['agent', 'cleanup', 'metrics'] as const)
      expect(await rejection(desk.mint({ caller: callerOf(role), session: 'walk' })), role).toEqual(forbidden)
    expect(await rejection(desk.mint({ caller: callerOf('ops', { keyId: null }), session: 'walk' }))).toEqual(forbidden)
    await desk.mint({ caller: callerOf('ops'), session: 'walk' })
  })

  it('cannot make another, whatever its role', async () => {
    const { token } = await desk.mint({ caller: SERVICE, session: 'walk' })
    const caller = await desk.authenticate(token)
    expect(caller).toBeDefined()
    if (caller === undefined) return
    expect(await rejection(desk.mint({ caller, session: 'walk' }))).toEqual(forbidden)
    expect(await rejection(desk.mint({ caller: { ...caller, role: 'ops' }, session: 'walk' }))).toEqual(forbidden)
  })

  it("is of the session's owner where an operator makes it, and of nobody else's by a service", async () => {
    const ops = callerOf('ops', { owner: 'root', keyId: 'opskey000001' })
    keys.set('opskey000001', ops)
    const { token } = await desk.mint({ caller: ops, session: 'walk', owner: 'acme' })
    expect((await desk.authenticate(token))?.owner).toBe('acme')
    expect(await rejection(desk.mint({ caller: SERVICE, session: 'walk', owner: 'other' }))).toEqual(forbidden)
  })

  it('counts only while the key that made it does, and never for more than that may now', async () => {
    const { token } = await desk.mint({ caller: SERVICE, session: 'walk' })
    keys.set('acmekey00001', callerOf('service', { scopes: new Set(['run']), limits: {} }))
    expect(await desk.authenticate(token)).toMatchObject({ scopes: new Set(['run']), limits: {} })
    keys.set('acmekey00001', callerOf('agent'))
    expect(await desk.authenticate(token)).toBeUndefined()
    keys.set('acmekey00001', callerOf('service', { owner: 'other' }))
    expect(await desk.authenticate(token)).toBeUndefined()
    keys.delete('acmekey00001')
    expect(await desk.authenticate(token)).toBeUndefined()
    keys.set('acmekey00001', SERVICE)
    expect(await desk.authenticate(token)).toBeDefined()
  })

  it('is not what differs from it', async () => {
    const { id, token } = await desk.mint({ caller: SERVICE, session: 'walk' })
    const other = (await desk.mint({ caller: SERVICE, session: 'walk' })).token
    for (const wrong of ['', `cos_${id}_${other.slice(-43)}`, token.replace('cos_', 'co_'), `${token}x`])
      expect(await desk.authenticate(wrong), wrong).toBeUndefined()
  })

  it('is over once it is revoked, its session is removed, or it is forgotten', async () => {
    const mint = async (session: string, ttlSeconds = 60) => desk.mint({ caller: SERVICE, session, ttlSeconds })
    const [a, b, c, d] = [await mint('a'), await mint('b'), await mint('b'), await mint('c', 3_600)]
    expect(await tokens.revoke(a.id)).toBe(true)
    expect(await tokens.revoke(a.id)).toBe(false)
    expect(await desk.authenticate(a.token)).toBeUndefined()
    expect(await desk.authenticate(b.token)).toBeDefined()
    await tokens.removeOfSession('b')
    for (const { token } of [b, c]) expect(await desk.authenticate(token)).toBeUndefined()
    const e = await mint('c')
    await tokens.expire(new Date(NOW.getTime() + 60_000))
    expect(await tokens.find(e.id)).toBeUndefined()
    expect(await desk.authenticate(d.token)).toBeDefined()
  })
})
