import type { Caller, View } from '../domain/caller.ts'
import type { Page } from '../domain/common.ts'
import { timestamp } from '../domain/common.ts'
import { AppError, unknownResource } from '../errors.ts'
import type { Database, SessionRow } from './database.ts'
import type { Events } from './events.ts'
import { requireOwned } from './ownership.ts'

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
const RETRY_AFTER_SECONDS = 5

export class Sessions {
  readonly #database: Database
  readonly #events: Events
  /** By a clock that nobody sets, of the sessions that were used in this process. */
  readonly #lastUse = new Map<string, number>()

  constructor(database: Database, events: Events) {
    this.#database = database
    this.#events = events
  }

  /** Whose a session is, or would be where it is new; `not_found` where it is another's. */
  async ownerFor(sessionId: string, caller: Caller): Promise<string | null> {
    const present = await this.get(sessionId)
    if (present === undefined) return caller.owner
    requireOwned(caller, 'session', sessionId, { owner: present.owner, sessionId })
    return present.owner
  }

  /**
   * Notes activity of a session, and begins it for the caller where it is new; `not_found` where it is
   * another's, `quota_exceeded` where the caller may not have one more.
   */
  async touch(sessionId: string, caller: Caller): Promise<void> {
    await this.#claim(sessionId, caller)
    await this.noteActivity(sessionId)
  }

  /** Begins a session that was there since a time, where it is not known. */
  async restore(sessionId: string, createdAt: Date, owner: string | null): Promise<void> {
    await this.#insert(sessionId, owner, timestamp(createdAt))
  }

  async #claim(sessionId: string, caller: Caller): Promise<void> {
    const present = await this.get(sessionId)
    if (present !== undefined) return requireOwned(caller, 'session', sessionId, { owner: present.owner, sessionId })
    // A token's session ended, and is not its to begin again.
    if (caller.session !== undefined) throw unknownResource('session', sessionId)
    await this.#requireRoom(caller)
    await this.#insert(sessionId, caller.owner)
    // Another call may have begun it in between.
    await this.ownerFor(sessionId, caller)
  }

  async #requireRoom({ owner, limits }: Caller): Promise<void> {
    if (owner === null || limits.sessions === undefined) return
    if ((await this.count(owner)) < limits.sessions) return
    throw new AppError('quota_exceeded', `This key may have ${limits.sessions} sessions at once`, {
      retryAfterSeconds: RETRY_AFTER_SECONDS,
      hint: 'End one that is done with DELETE /sessions/{session_id}.',
    })
  }

  async #insert(sessionId: string, owner: string | null, created_at = timestamp()): Promise<void> {
    const { numInsertedOrUpdatedRows } = await this.#database
      .insertInto('sessions')
      .values({ session_id: sessionId, owner, created_at, last_activity_at: timestamp(), ...UNBOUNDED })
      .onConflict((conflict) => conflict.column('session_id').doNothing())
      .executeTakeFirstOrThrow()
    if ((numInsertedOrUpdatedRows ?? 0n) > 0n)
      await this.#events.append({ type: 'session.created', session_id: sessionId, owner, data: {} })
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
  async renew(sessionId: string, settings: SessionSettings, caller: Caller): Promise<SessionRow> {
    const { ttl_seconds, idle_timeout_seconds, quotas } = settings
    await this.#claim(sessionId, caller)
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
    view,
  }: {
    limit?: number | undefined
    cursor?: string | undefined
    view?: View | undefined
  }): Promise<Page<SessionRow>> {
    let query = this.#database.selectFrom('sessions').selectAll()
    if (cursor !== undefined) query = query.where('session_id', '>', cursor)
    if (view !== undefined) query = query.where('owner', '=', view.owner)
    if (view?.session !== undefined) query = query.where('session_id', '=', view.session)
    const rows = await query
      .orderBy('session_id')
      .limit(limit + 1)
      .execute()
    const items = rows.slice(0, limit)
    return { items, next_cursor: rows.length > limit ? (items.at(-1)?.session_id ?? null) : null }
  }

  /** Of an owner, or all. */
  async count(owner?: string): Promise<number> {
    let query = this.#database.selectFrom('sessions').select((eb) => eb.fn.countAll<number>().as('count'))
    if (owner !== undefined) query = query.where('owner', '=', owner)
    const { count } = await query.executeTakeFirstOrThrow()
    return count
  }

  /** Ends a session: its runs stay fetchable, it is listed no more. */
  async remove(sessionId: string, reason = 'cleanup'): Promise<void> {
    this.#lastUse.delete(sessionId)
    const gone = await this.#database
      .deleteFrom('sessions')
      .where('session_id', '=', sessionId)
      .returning('owner')
      .executeTakeFirst()
    if (gone !== undefined)
      await this.#events.append({ type: 'session.ended', session_id: sessionId, owner: gone.owner, data: { reason } })
  }
}
