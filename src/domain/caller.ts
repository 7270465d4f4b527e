/** Who calls, what they may do, and how far they see. */

/** What a call needs its caller to have. */
export const SCOPES = [
  'run',
  'relic',
  'worker',
  'exec',
  'files',
  'build',
  'stats',
  'cleanup',
  'admin',
  'metrics',
] as const
export type Scope = (typeof SCOPES)[number]

export const ROLES = ['agent', 'service', 'ops', 'cleanup', 'metrics'] as const
export type Role = (typeof ROLES)[number]

/** What a key may ask for at most: it narrows profiles, and never widens one. Absent: as the profile has it. */
export interface CallerLimits {
  /** Names of the profiles that it may use. */
  readonly profiles?: readonly string[]
  /** Patterns of image references. */
  readonly images?: readonly string[]
  readonly networks?: readonly string[]
  /** Host folders that it may mount, each within one that the operator allows. */
  readonly hostRoots?: readonly string[]
  /** Names of the credential sets that it may use. */
  readonly credentials?: readonly string[]
  /** Of one container. */
  readonly memoryMegabytes?: number
  readonly cpus?: number
  readonly timeoutSeconds?: number
  readonly pids?: number
  /** Sessions that it may have at once. */
  readonly sessions?: number
  /** Tool runs that it may have at once, waiting or not. */
  readonly runs?: number
  /** Containers of all kinds that it may have at once. */
  readonly containers?: number
  readonly requestsPerMinute?: number
}

/** Who calls. What it makes is its owner's, and bears that for good. */
export interface Caller {
  /** Whose things it makes and sees. Keys that follow one another share it; null where callers are not told apart. */
  readonly owner: string | null
  /** Of the key, for the audit log; null without one. */
  readonly keyId: string | null
  /** Of the session token that it came with, which the key has made. */
  readonly tokenId?: string
  readonly role: Role
  readonly scopes: ReadonlySet<Scope>
  /** The one session that a session token is bound to. */
  readonly session?: string
  /** Whether it sees what is its own, or everything. */
  readonly reach: 'own' | 'all'
  readonly limits: CallerLimits
}

/** Callers that nobody tells apart: where the operator gave out no keys. */
export const ANYONE: Caller = {
  owner: null,
  keyId: null,
  role: 'ops',
  scopes: new Set(SCOPES),
  reach: 'all',
  limits: {},
}

/** Whose something is. */
export interface Owned {
  owner: string | null
  /** Null for what belongs to no session. */
  sessionId: string | null
}

/** What a caller sees of many things; undefined where it sees all. */
export interface View {
  owner: string | null
  session?: string
}

export function viewOf({ owner, session, reach }: Caller): View | undefined {
  return reach === 'all' ? undefined : { owner, ...(session === undefined ? {} : { session }) }
}

export function canSee(caller: Caller, { owner, sessionId }: Owned): boolean {
  const view = viewOf(caller)
  if (view === undefined) return true
  return owner !== null && view.owner === owner && (view.session === undefined || view.session === sessionId)
}

/** How something is made, beside what it is to be. */
export interface Making {
  /** Under this id; a new one where absent. */
  id?: string
  caller?: Caller
}

/** Whether a caller may make session tokens: services and operators, and never by a session token itself. */
export function mayMint({ role, session, keyId }: Caller): boolean {
  return keyId !== null && session === undefined && (role === 'service' || role === 'ops')
}
