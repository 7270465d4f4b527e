import type { Page } from '../domain/common.ts'
import { timestamp } from '../domain/common.ts'
import type { Database, SessionRow } from './database.ts'
import type { Events } from './events.ts'

export type { SessionRow }

/** How long a session lasts, and what it may have at once; null for without end or bound. */
export interface SessionSettings {
  ttl_seconds: number | null
  idle_timeout_seconds: number | null
  quotas: { runs: number | null; containers: number | null; memory_mb: number | null }
}

const UNBOUNDED = {
  ttl_seconds: null,
  idle_timeout_seconds: null,
  expires_at: null,
  quota_runs: null,
  quota_containers: null,
  quota_memory_mb: null,
}

const DEFAULT_LIMIT = 100

export class Sessions {
  readonly #database: Database
  readonly #events: Events
  /** By a clock that nobody sets, of the sessions that were used in this process. */
  readonly #lastUse = new Map<string, number>()

  constructor(database: Database, events: Events) {
    this.#database = database
    this.#events = events
  }

  /** Notes activity of a session, and begins it where it is new. */
  async touch(sessionId: string): Promise<void> {
    await this.#begin(sessionId)
    await this.noteActivity(sessionId)
  }

  /** Begins a session that was there since a time, where it is not known. */
  async restore(sessionId: string, createdAt: Date): Promise<void> {
    await this.#begin(sessionId, timestamp(createdAt))
  }

  async #begin(sessionId: string, created_at = timestamp()): Promise<void> {
    const { numInsertedOrUpdatedRows } = await this.#database
      .insertInto('sessions')
      .values({ session_id: sessionId, created_at, last_activity_at: timestamp(), ...UNBOUNDED })
      .onConflict((conflict) => conflict.column('session_id').doNothing())
      .executeTakeFirstOrThrow()
    if ((numInsertedOrUpdatedRows ?? 0n) > 0n)
      await this.#events.append({ type: 'session.created', session_id: sessionId, data: {} })
  }

  /** Notes activity of a session that there still is. */
  async noteActivity(sessionId: string): Promise<void> {
    const { numUpdatedRows } = await this.#database
      .updateTable('sessions')
      .set({ last_activity_at: timestamp() })
      .where('session_id', '=', sessionId)
      .executeTakeFirstOrThrow()
    if (numUpdatedRows > 0n) this.#lastUse.set(sessionId, performance.now())
  }

  /** Sets how long a session lasts from now on and what it may have, and begins it where it is new. */
  async renew(sessionId: string, settings: SessionSettings): Promise<SessionRow> {
    const { ttl_seconds, idle_timeout_seconds, quotas } = settings
    await this.#begin(sessionId)
    this.#lastUse.set(sessionId, performance.now())
    const now = new Date()
    const expires_at = ttl_seconds === null ? null : timestamp(new Date(now.getTime() + ttl_seconds * 1000))
    return this.#database
      .updateTable('sessions')
      .set({
        last_activity_at: timestamp(now),
        ttl_seconds,
        idle_timeout_seconds,
        expires_at,
        quota_runs: quotas.runs,
        quota_containers: quotas.containers,
        quota_memory_mb: quotas.memory_mb,
      })
      .where('session_id', '=', sessionId)
      .returningAll()
      .executeTakeFirstOrThrow()
  }

  /** Milliseconds without activity, whatever the wall clock was set to since this process began. */
  idleMs({ session_id, last_activity_at }: Pick<SessionRow, 'session_id' | 'last_activity_at'>): number {
    const now = performance.now()
    const last = this.#lastUse.get(session_id) ?? now - Math.max(0, Date.now() - Date.parse(last_activity_at))
    this.#lastUse.set(session_id, last)
    return now - last
  }

  /** Those that end by themselves one day. */
  async limited(): Promise<SessionRow[]> {
    return this.#database
      .selectFrom('sessions')
      .selectAll()
      .where((eb) => eb.or([eb('expires_at', 'is not', null), eb('idle_timeout_seconds', 'is not', null)]))
      .execute()
  }

  async get(sessionId: string): Promise<SessionRow | undefined> {
    return this.#database.selectFrom('sessions').selectAll().where('session_id', '=', sessionId).executeTakeFirst()
  }

  /** By id. */
  async list({
    limit = DEFAULT_LIMIT,
    cursor,
  }: {
    limit?: number | undefined
    cursor?: string | undefined
  }): Promise<Page<SessionRow>> {
    let query = this.#database.selectFrom('sessions').selectAll()
    if (cursor !== undefined) query = query.where('session_id', '>', cursor)
    const rows = await query
      .orderBy('session_id')
      .limit(limit + 1)
      .execute()
    const items = rows.slice(0, limit)
    return { items, next_cursor: rows.length > limit ? (items.at(-1)?.session_id ?? null) : null }
  }

  async count(): Promise<number> {
    const { count } = await this.#database
      .selectFrom('sessions')
      .select((eb) => eb.fn.countAll<number>().as('count'))
      .executeTakeFirstOrThrow()
    return count
  }

  /** Ends a session: its runs stay fetchable, it is listed no more. */
  async remove(sessionId: string, reason = 'cleanup'): Promise<void> {
    this.#lastUse.delete(sessionId)
    const { numDeletedRows } = await this.#database
      .deleteFrom('sessions')
      .where('session_id', '=', sessionId)
      .executeTakeFirstOrThrow()
    if (numDeletedRows > 0n)
      await this.#events.append({ type: 'session.ended', session_id: sessionId, data: { reason } })
  }
}
