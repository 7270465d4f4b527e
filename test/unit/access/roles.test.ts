import { describe, expect, it } from 'vitest'
import { reachOf, scopeBeyond, scopesOf } from '../../../src/access/roles.ts'
import { type Caller, mayMint, ROLES, SCOPES } from '../../../src/domain/caller.ts'

const AGENT = ['run', 'relic', 'worker', 'exec', 'files', 'stats']

const caller = (part: Partial<Caller>): Caller => ({
  owner: 'alice',
  keyId: 'k',
  role: 'service',
  scopes: new Set(),
  reach: 'own',
  limits: {},
  ...part,
})

describe('roles', () => {
  it.each([
    ['agent', AGENT, 'own'],
    ['service', [...AGENT, 'build'], 'own'],
    ['ops', SCOPES, 'all'],
    ['cleanup', ['cleanup'], 'all'],
    ['metrics', ['metrics'], 'all'],
  ] as const)('%s', (role, scopes, reach) => {
    expect([...scopesOf(role)].sort()).toEqual([...scopes].sort())
    expect(reachOf(role)).toBe(reach)
  })

  it('are narrowed by scopes and never widened', () => {
    expect(scopeBeyond('agent', ['run', 'stats'])).toBeUndefined()
    expect(scopeBeyond('agent', ['run', 'build'])).toBe('build')
    expect(scopeBeyond('cleanup', ['admin'])).toBe('admin')
    for (const role of ROLES) {
      expect(scopeBeyond(role, scopesOf(role))).toBeUndefined()
      for (const scope of SCOPES.filter((one) => !scopesOf(role).includes(one)))
        expect(scopeBeyond(role, [scope])).toBe(scope)
    }
  })

  it('let services and operators make session tokens, by a key and not by a token', () => {
    expect(ROLES.filter((role) => mayMint(caller({ role })))).toEqual(['service', 'ops'])
    expect(mayMint(caller({ role: 'ops', session: 's' }))).toBe(false)
    expect(mayMint(caller({ role: 'ops', keyId: null }))).toBe(false)
  })
})
