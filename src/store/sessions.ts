import type { Caller, View } from '../domain/caller.ts'
import type { Page } from '../domain/common.ts'
import { timestamp } from '../domain/common.ts'
import { AppError, unknownResource } from '../errors.ts'
import type { Database } from './database.ts'
import type { Events } from './events.ts'
import { requireOwned } from './ownership.ts'
import { Where } from './where.ts'

export interface SessionRow {
  session_id: string
  /** Whoever began it; null where callers were not told apart. */
  owner: string | null
  created_at: string
  last_activity_at: string
  /** Null where the session lasts until it is cleaned up. */
  ttl_seconds: number | null
  /** Null where no activity is asked for. */
  idle_timeout_seconds: number | null
  /** By its time to live, counted from when that was set last. */
  expires_at: string | null
  /** Of what it may have at once; null where only the operator bounds it. */
  quota_runs: number | null
  quota_containers: number | null
  quota_memory_mb: number | null
}

/** How long a session lasts, and what it may have at once; null for without end or bound. */
export interface SessionSettings {
  ttl_seconds: number | null
  idle_timeout_seconds: number | null
  quotas: { runs: number | null; containers: number | null; memory_mb: number | null }
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
    return this.#ownerFor(sessionId, caller)
  }

  /**
   * Notes activity of a session, and begins it for the caller where it is new; `not_found` where it is
   * another's, `quota_exceeded` where the caller may not have one more.
   */
  async touch(sessionId: string, caller: Caller): Promise<void> {
    const isNew = this.#database.atomically(() => this.use(sessionId, caller))
    if (isNew) this.#events.told()
  }

  /** As `touch`, in a transaction of its caller's: true where an event of its beginning is to be told. */
  use(sessionId: string, caller: Caller): boolean {
    const isNew = this.#claim(sessionId, caller)
    this.active(sessionId)
    return isNew
  }

  /** Begins a session that was there since a time, where it is not known. */
  async restore(sessionId: string, createdAt: Date, owner: string | null): Promise<void> {
    const isNew = this.#database.atomically(() => this.#insert(sessionId, owner, timestamp(createdAt)))
    if (isNew) this.#events.told()
  }

  #ownerFor(sessionId: string, caller: Caller): string | null {
    const present = this.#get(sessionId)
    if (present === undefined) return caller.owner
    requireOwned(caller, 'session', sessionId, { owner: present.owner, sessionId })
    return present.owner
  }

  /** True where it is new. */
  #claim(sessionId: string, caller: Caller): boolean {
    const present = this.#get(sessionId)
    if (present !== undefined) {
      requireOwned(caller, 'session', sessionId, { owner: present.owner, sessionId })
      return false
    }
    // A token's session ended, and is not its to begin again.
    if (caller.session !== undefined) throw unknownResource('session', sessionId)
    this.#requireRoom(caller)
    return this.#insert(sessionId, caller.owner)
  }

  #requireRoom({ owner, limits }: Caller): void {
    if (owner === null || limits.sessions === undefined) return
    if (this.#count(owner) < limits.sessions) return
    throw new AppError('quota_exceeded', `This key may have ${limits.sessions} sessions at once`, {
      retryAfterSeconds: RETRY_AFTER_SECONDS,
      hint: 'End one that is done with DELETE /sessions/{session_id}.',
    })
  }

  #insert(sessionId: string, owner: string | null, createdAt = timestamp()): boolean {
    const inserted = this.#database.run(
      `insert into sessions (session_id, owner, created_at, last_activity_at) values (?, ?, ?, ?)
       on conflict do nothing`,
      ...[sessionId, owner, createdAt, timestamp()],
    )
    if (inserted > 0) this.#events.write({ type: 'session.created', session_id: sessionId, owner, data: {} })
    return inserted > 0
  }

  /** Notes activity of a session that there still is. */
  async noteActivity(sessionId: string): Promise<void> {
    this.active(sessionId)
  }

  /** As `noteActivity`, in a transaction of its caller's. */
  active(sessionId: string): void {
    const sql = 'update sessions set last_activity_at = ? where session_id = ?'
    if (this.#database.run(sql, timestamp(), sessionId) > 0) this.#lastUse.set(sessionId, performance.now())
  }

  /** Sets how long a session lasts from now on and what it may have, and begins it where it is new. */
  async renew(sessionId: string, settings: SessionSettings, caller: Caller): Promise<SessionRow> {
    const { ttl_seconds, idle_timeout_seconds, quotas } = settings
    const now = new Date()
    const expires_at = ttl_seconds === null ? null : timestamp(new Date(now.getTime() + ttl_seconds * 1000))
    const { isNew, row } = this.#database.atomically(() => ({
      isNew: this.#claim(sessionId, caller),
      row: this.#database.first<SessionRow>(
        `update sessions set last_activity_at = ?, ttl_seconds = ?, idle_timeout_seconds = ?, expires_at = ?,
           quota_runs = ?, quota_containers = ?, quota_memory_mb = ? where session_id = ? returning *`,
        ...[timestamp(now), ttl_seconds, idle_timeout_seconds, expires_at],
        ...[quotas.runs, quotas.containers, quotas.memory_mb, sessionId],
      ),
    }))
    if (row === undefined) throw new Error(`session ${sessionId} is not there behind its claim`)
    this.#lastUse.set(sessionId, performance.now())
    if (isNew) this.#events.told()
    return row
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
    return this.#database.all<SessionRow>(
      'select * from sessions where expires_at is not null or idle_timeout_seconds is not null',
    )
  }

  async get(sessionId: string): Promise<SessionRow | undefined> {
    return this.#get(sessionId)
  }

  #get(sessionId: string): SessionRow | undefined {
    return this.#database.first<SessionRow>('select * from sessions where session_id = ?', sessionId)
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
    const where = new Where()
      .and('session_id > ?', cursor)
      .and('owner = ?', view?.owner)
      .and('session_id = ?', view?.session)
    const rows = this.#database.all<SessionRow>(
      `select * from sessions ${where.sql} order by session_id limit ?`,
      ...where.values,
      limit + 1,
    )
    const items = rows.slice(0, limit)
    return { items, next_cursor: rows.length > limit ? (items.at(-1)?.session_id ?? null) : null }
  }

  /** Of an owner, or all. */
  async count(owner?: string): Promise<number> {
    return this.#count(owner)
  }

  #count(owner?: string): number {
    const where = new Where().and('owner = ?', owner)
    return (
      this.#database.first<{ count: number }>(`select count(*) as count from sessions ${where.sql}`, ...where.values)
        ?.count ?? 0
    )
  }

  /** Ends a session: its runs stay fetchable, it is listed no more. */
  async remove(sessionId: string, reason = 'cleanup'): Promise<void> {
    this.#lastUse.delete(sessionId)
    const gone = this.#database.atomically(() => {
      const row = this.#database.first<Pick<SessionRow, 'owner'>>(
        'delete from sessions where session_id = ? returning owner',
        sessionId,
      )
      if (row !== undefined)
        this.#events.write({ type: 'session.ended', session_id: sessionId, owner: row.owner, data: { reason } })
      return row !== undefined
    })
    if (gone) this.#events.told()
  }
}
