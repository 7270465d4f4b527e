/** What a route asks of its caller: declared beside it, and held to by plugins/access.ts. */
import type { Scope } from './caller.ts'

/** What a path, a query or a body can name. A container is named by its engine id, or by what it is for. */
export type OwnedKind = 'session' | 'tool' | 'relic' | 'worker' | 'exec' | 'container'

/** A field of a request that names something which has an owner. */
export interface OwnedField {
  kind: OwnedKind
  in: 'params' | 'query' | 'body'
  field: string
  /** The call makes it where there is none, or does nothing then. */
  mayBeNew?: true
  /** The call may be repeated when it is gone: whoever had it last is told so. */
  mayBeGone?: true
}

export interface RestrictedAccess {
  /** Any of these is enough; none: any caller that is known. */
  scopes: readonly Scope[]
  /** Only for callers who see everything. */
  reach?: 'all'
  /** Each must be the caller's own. */
  owns?: readonly OwnedField[]
  /** A body with an image to build needs the scope `build`, too. */
  builds?: true
  /** Not for session tokens: it sets what their session may have. */
  keysOnly?: true
  /** Makes tokens for others: services and operators only. */
  mints?: true
}

/** `public`: also for callers that nobody knows. */
export type Access = 'public' | RestrictedAccess
