import type { CallerLimits } from '../domain/caller.ts'
import type { Quotas } from '../domain/session.ts'
import { AppError } from '../errors.ts'
import type { SessionRow, Sessions } from '../store/sessions.ts'

/** What a session has, or one thing in it asks for. */
export interface SessionUse {
  /** Tool runs that have not ended, waiting or not. */
  runs: number
  /** Tool runs, relics and workers together. */
  containers: number
  /** What these may use at most. */
  memory_mb: number
}

/** Where something counts: in its session, and with its owner. */
export interface Place {
  sessionId: string
  owner: string | null
}

/** Whoever keeps things of sessions, and can tell at any moment what those that match use. */
export interface SessionUser {
  useWhere(matches: (place: Place) => boolean): SessionUse
}

const NOTHING: SessionUse = { runs: 0, containers: 0, memory_mb: 0 }
const RETRY_AFTER_SECONDS = 5
const BOUNDS = ['runs', 'containers', 'memory_mb'] as const

const WORDS: Record<keyof SessionUse, string> = {
  runs: 'tool runs that have not ended',
  containers: 'containers',
  memory_mb: 'MiB of memory for its containers',
}

/**
 * Bounds what each session has at once, by what it was set to and never beyond the operator's bounds;
 * and what each owner has, by the limits of the key that asks.
 */
export class SessionQuotas {
  readonly #sessions: Sessions
  readonly #operator: Quotas
  readonly #users: SessionUser[] = []
  readonly #held = new Map<string, SessionUse>()
  readonly #heldByOwner = new Map<string, SessionUse>()

  constructor(options: { sessions: Sessions; operator: Quotas }) {
    this.#sessions = options.sessions
    this.#operator = options.operator
  }

  /** Counts from now on what somebody else keeps, too. */
  count(user: SessionUser): void {
    this.#users.push(user)
  }

  /** Answers a check, to be made at the moment in which what it is for begins to count. */
  async checkFor({ sessionId, owner }: Place, limits: CallerLimits): Promise<(use: SessionUse) => void> {
    const quotas = sessionId === '' ? undefined : this.of(await this.#sessions.get(sessionId))
    return (use) => {
      if (quotas !== undefined) this.#requireInSession(sessionId, quotas, use)
      if (owner !== null) this.#requireWithOwner(owner, limits, use)
    }
  }

  /** Checks, and counts until the answered function is called, which may be repeated. */
  async hold(place: Place, limits: CallerLimits, use: SessionUse): Promise<() => void> {
    const check = await this.checkFor(place, limits)
    check(use)
    return this.keep(place, use)
  }

  /** Counts what was accepted before, whatever the quotas are now. */
  keep({ sessionId, owner }: Place, use: SessionUse): () => void {
    const add = (sign: 1 | -1) => {
      addTo(this.#held, sessionId, use, sign)
      if (owner !== null) addTo(this.#heldByOwner, owner, use, sign)
    }
    add(1)
    let held = true
    return () => {
      if (held) add(-1)
      held = false
    }
  }

  used(sessionId: string): SessionUse {
    const held = this.#held.get(sessionId) ?? NOTHING
    return this.#users.map((user) => user.useWhere((place) => place.sessionId === sessionId)).reduce(sum, held)
  }

  #usedBy(owner: string): SessionUse {
    const held = this.#heldByOwner.get(owner) ?? NOTHING
    return this.#users.map((user) => user.useWhere((place) => place.owner === owner)).reduce(sum, held)
  }

  /** What a session may have at once; null where there is no bound. */
  of(row: SessionRow | undefined): Quotas {
    return {
      runs: lower(row?.quota_runs ?? null, this.#operator.runs),
      containers: lower(row?.quota_containers ?? null, this.#operator.containers),
      memory_mb: lower(row?.quota_memory_mb ?? null, this.#operator.memory_mb),
    }
  }

  #requireInSession(sessionId: string, quotas: Quotas, use: SessionUse): void {
    const used = this.used(sessionId)
    for (const bound of BOUNDS) {
      const limit = quotas[bound]
      if (use[bound] === 0 || limit === null || used[bound] + use[bound] <= limit) continue
      throw new AppError(
        'quota_exceeded',
        `Session "${sessionId}" may have ${limit} ${WORDS[bound]}: it has ${used[bound]}, and this asks for ${use[bound]}`,
        {
          retryAfterSeconds: RETRY_AFTER_SECONDS,
          hint: 'Wait until something of the session has ended, ask for less, or raise its quotas with PUT /sessions/{session_id}.',
        },
      )
    }
  }

  #requireWithOwner(owner: string, limits: CallerLimits, use: SessionUse): void {
    const used = this.#usedBy(owner)
    for (const bound of ['runs', 'containers'] as const) {
      const limit = limits[bound]
      if (use[bound] === 0 || limit === undefined || used[bound] + use[bound] <= limit) continue
      throw new AppError(
        'quota_exceeded',
        `This key may have ${limit} ${WORDS[bound]}: there are ${used[bound]}, and this asks for ${use[bound]}`,
        { retryAfterSeconds: RETRY_AFTER_SECONDS, hint: 'Wait until something has ended, or end something.' },
      )
    }
  }
}

function addTo(held: Map<string, SessionUse>, key: string, use: SessionUse, sign: 1 | -1): void {
  const now = sum(held.get(key) ?? NOTHING, {
    runs: sign * use.runs,
    containers: sign * use.containers,
    memory_mb: sign * use.memory_mb,
  })
  if (now.containers === 0) held.delete(key)
  else held.set(key, now)
}

function sum(one: SessionUse, other: SessionUse): SessionUse {
  return {
    runs: one.runs + other.runs,
    containers: one.containers + other.containers,
    memory_mb: one.memory_mb + other.memory_mb,
  }
}

function lower(one: number | null, other: number | null): number | null {
  if (one === null || other === null) return one ?? other
  return Math.min(one, other)
}
