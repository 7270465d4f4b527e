/** What each role may do, and how far it sees. */
import { type Caller, type Role, SCOPES, type Scope } from '../domain/caller.ts'

const AGENT = ['run', 'relic', 'worker', 'exec', 'files', 'stats'] as const satisfies Scope[]

const SCOPES_OF: Record<Role, readonly Scope[]> = {
  agent: AGENT,
  service: [...AGENT, 'build'],
  ops: SCOPES,
  cleanup: ['cleanup'],
  metrics: ['metrics'],
}

const REACH_OF: Record<Role, Caller['reach']> = {
  agent: 'own',
  service: 'own',
  ops: 'all',
  cleanup: 'all',
  metrics: 'all',
}

/** Who works in a session: all that a session token can have. */
export const TOKEN_SCOPES: readonly Scope[] = AGENT

export function scopesOf(role: Role): readonly Scope[] {
  return SCOPES_OF[role]
}

export function reachOf(role: Role): Caller['reach'] {
  return REACH_OF[role]
}

/** The first of these scopes that the role does not have; undefined where they narrow it. */
export function scopeBeyond(role: Role, scopes: readonly Scope[]): Scope | undefined {
  return scopes.find((scope) => !SCOPES_OF[role].includes(scope))
}
