import { expect, it } from 'vitest'
import { type Caller, SCOPES } from '../../../src/domain/caller.ts'
import { startMemoryService } from '../../fixtures/memory-service.ts'

const callerOf = (owner: string): Caller => ({
  owner,
  keyId: owner,
  role: 'ops',
  scopes: new Set(SCOPES),
  reach: 'own',
  limits: {},
})

it('ends the streams of a key once it is revoked, and no other', async () => {
  const valid = new Set(['anna', 'bert'])
  await using service = await startMemoryService({
    keys: { authenticate: async (bearer) => (valid.has(bearer) ? callerOf(bearer) : undefined) },
  })
  const opened = async (key: string) => {
    const answer = await fetch(`${service.url}/events`, { headers: { authorization: `Bearer ${key}` } })
    expect(answer.status).toBe(200)
    let state = 'open'
    const read = async () => {
      const reader = answer.body?.getReader()
      while (!(await reader?.read())?.done);
    }
    const over = read().then(
      () => {
        state = 'ended'
      },
      () => {
        state = 'broken'
      },
    )
    return { over, state: () => state }
  }
  const [annas, berts, others] = [await opened('anna'), await opened('bert'), await opened('anna')]
  valid.delete('anna')
  await Promise.all([annas.over, others.over])
  expect([annas.state(), others.state(), berts.state()]).toEqual(['broken', 'broken', 'open'])
  // What was accepted of it goes on; a new call is not let in.
  expect((await fetch(`${service.url}/sessions`, { headers: { authorization: 'Bearer anna' } })).status).toBe(401)
  expect((await fetch(`${service.url}/sessions`, { headers: { authorization: 'Bearer bert' } })).status).toBe(200)
})
