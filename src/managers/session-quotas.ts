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

/** Whoever keeps things of sessions, and can tell at any moment what they use. */
export interface SessionUser {
  useIn(sessionId: string): SessionUse
}

const NOTHING: SessionUse = { runs: 0, containers: 0, memory_mb: 0 }
const RETRY_AFTER_SECONDS = 5
const BOUNDS = ['runs', 'containers', 'memory_mb'] as const

const WORDS: Record<keyof SessionUse, string> = {
  runs: 'tool runs that have not ended',
  containers: 'containers',
  memory_mb: 'MiB of memory for its containers',
}

/** Bounds what each session has at once: by what it was set to, and never beyond the operator's bounds. */
export class SessionQuotas {
  readonly #sessions: Sessions
  readonly #operator: Quotas
  readonly #users: SessionUser[] = []
  readonly #held = new Map<string, SessionUse>()

  constructor(options: { sessions: Sessions; operator: Quotas }) {
    this.#sessions = options.sessions
    this.#operator = options.operator
  }

  /** Counts from now on what somebody else keeps, too. */
  count(user: SessionUser): void {
    this.#users.push(user)
  }

  /** Answers a check, to be made at the moment in which what it is for begins to count. */
  async checkFor(sessionId: string): Promise<(use: SessionUse) => void> {
    const quotas = this.of(await this.#sessions.get(sessionId))
    return (use) => this.#require(sessionId, quotas, use)
  }

  /** Checks, and counts until the answered function is called, which may be repeated. */
  async hold(sessionId: string, use: SessionUse): Promise<() => void> {
    const check = await this.checkFor(sessionId)
    check(use)
    return this.keep(sessionId, use)
  }

  /** Counts what was accepted before, whatever the quotas are now. */
  keep(sessionId: string, use: SessionUse): () => void {
    this.#add(sessionId, use, 1)
    let held = true
    return () => {
      if (held) this.#add(sessionId, use, -1)
      held = false
    }
  }

  used(sessionId: string): SessionUse {
    return this.#users.map((user) => user.useIn(sessionId)).reduce(sum, this.#held.get(sessionId) ?? NOTHING)
  }

  /** What a session may have at once; null where there is no bound. */
  of(row: SessionRow | undefined): Quotas {
    return {
      runs: lower(row?.quota_runs ?? null, this.#operator.runs),
      containers: lower(row?.quota_containers ?? null, this.#operator.containers),
      memory_mb: lower(row?.quota_memory_mb ?? null, this.#operator.memory_mb),
    }
  }

  #require(sessionId: string, quotas: Quotas, use: SessionUse): void {
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

  #add(sessionId: string, use: SessionUse, sign: 1 | -1): void {
    const held = sum(this.#held.get(sessionId) ?? NOTHING, {
      runs: sign * use.runs,
      containers: sign * use.containers,
      memory_mb: sign * use.memory_mb,
    })
    if (held.containers === 0) this.#held.delete(sessionId)
    else this.#held.set(sessionId, held)
  }
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
