import type { Page } from '../domain/common.ts'
import { timestamp } from '../domain/common.ts'
import type { Database } from './database.ts'

export interface SessionRow {
  session_id: string
  created_at: string
  last_activity_at: string
}

const DEFAULT_LIMIT = 100

export class Sessions {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** Notes activity of a session, and begins it where it is new. */
  async touch(sessionId: string): Promise<void> {
    const now = timestamp()
    await this.#database
      .insertInto('sessions')
      .values({ session_id: sessionId, created_at: now, last_activity_at: now })
      .onConflict((conflict) => conflict.column('session_id').doUpdateSet({ last_activity_at: now }))
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
  async remove(sessionId: string): Promise<void> {
    await this.#database.deleteFrom('sessions').where('session_id', '=', sessionId).execute()
  }
}
