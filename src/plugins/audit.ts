/** Who asked for a change, and what was refused: written before anything is changed. */
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { AuditEntry } from '../audit/audit-line.ts'
import { AppError, messageOf } from '../errors.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The call may change something, and is in the log as allowed. */
    isAudited: boolean
  }
}

export interface AuditOptions {
  /** Rejects with `audit_unavailable` where a line cannot be written. Undefined: nothing is logged. */
  log: { append(entry: AuditEntry): Promise<void> } | undefined
}

const READS = new Set(['GET', 'HEAD', 'OPTIONS'])
/** Lines of callers that nobody knows, and of each key beyond its rate limit: they must not fill the disk. */
const UNKNOWN_LINES = 60
const RATE_LIMIT_LINES = 1
const WINDOW_MS = 60_000

/** What decided a refusal, by its code; all else is no decision on who may do what. */
const RULES: Partial<Record<AppError['code'], string>> = {
  unauthenticated: 'key',
  forbidden: 'role',
  rate_limited: 'rate_limit',
  quota_exceeded: 'quota',
}

/**
 * Two lines for each call that may change something: that it was allowed, before it is carried out, and
 * how it ended; where the first cannot be written the call is not carried out. One line for each refusal.
 * Register it behind access.ts.
 */
export const audit = fp<AuditOptions>(async (app, { log }) => {
  app.decorateRequest('isAudited', false)
  if (log === undefined) return
  const unknown = new Allowance(UNKNOWN_LINES, WINDOW_MS)
  /** By the id of the key: as many as the operator gave out. */
  const hasty = new Map<string, Allowance>()
  const mayTell = (caller: FastifyRequest['caller'] | null, rule: string): boolean => {
    // A wrong Host is refused before anyone asks who calls.
    if (caller === null) return unknown.take()
    if (rule !== RULES.rate_limited || caller.keyId === null) return true
    const allowance = hasty.get(caller.keyId) ?? new Allowance(RATE_LIMIT_LINES, WINDOW_MS)
    hasty.set(caller.keyId, allowance)
    return allowance.take()
  }

  app.addHook('preHandler', (request, _reply, done) => {
    // By a WebSocket anything may be said; what comes of it is between its ends.
    const isRead = READS.has(request.method) && request.upgradedSocket === undefined
    if (isRead || request.routeOptions.config.access === 'public') return done()
    log.append(entryOf(request, { decision: 'allow', rule: null, status: null })).then(() => {
      request.isAudited = true
      done()
    }, done)
  })

  app.addHook('onError', async (request, _reply, error) => {
    const rule = ruleOf(request, error)
    if (rule === undefined || !mayTell(request.caller, rule)) return
    // It is refused all the same where this fails.
    await log.append(entryOf(request, { decision: 'deny', rule, status: null })).catch((fault: unknown) => {
      request.log.error(
        { event: 'audit.unwritten', rule, error: messageOf(fault) },
        'a refusal is not in the audit log',
      )
    })
  })

  app.addHook('onResponse', (request, reply, done) => {
    if (request.isAudited) {
      const entry = entryOf(request, { decision: 'allow', rule: null, status: reply.statusCode })
      log.append(entry).catch((fault: unknown) => {
        request.log.error({ event: 'audit.unwritten', error: messageOf(fault) }, 'an outcome is not in the audit log')
      })
    }
    done()
  })
})

function ruleOf(request: FastifyRequest, error: unknown): string | undefined {
  if (request.isUnseen) return 'ownership'
  if (!(error instanceof AppError)) return undefined
  // Nobody had been asked who they are: it is the name or the page that was refused.
  if (error.code === 'forbidden' && request.caller === null) return 'host'
  if (error.code === 'policy_denied') return `policy_denied:${error.details.rule}`
  return RULES[error.code]
}

function entryOf(request: FastifyRequest, decision: Pick<AuditEntry, 'decision' | 'rule' | 'status'>): AuditEntry {
  // What is refused before a caller is known has none.
  const caller: Partial<FastifyRequest['caller']> | null = request.caller
  const { schema } = request.routeOptions
  return {
    key_id: caller?.keyId ?? null,
    token_id: caller?.tokenId ?? null,
    owner: caller?.owner ?? null,
    role: caller?.keyId == null ? null : (caller.role ?? null),
    session: caller?.session ?? null,
    route: (schema as { operationId?: string } | undefined)?.operationId ?? 'none',
    method: request.method,
    resource: request.url.split('?')[0] ?? '',
    ...decision,
    request_id: request.id,
  }
}

/** So many in each window of time. */
class Allowance {
  readonly #count: number
  readonly #windowMs: number
  #until = 0
  #left = 0

  constructor(count: number, windowMs: number) {
    this.#count = count
    this.#windowMs = windowMs
  }

  take(): boolean {
    const now = performance.now()
    if (now >= this.#until) {
      this.#until = now + this.#windowMs
      this.#left = this.#count
    }
    this.#left -= 1
    return this.#left >= 0
  }
}
