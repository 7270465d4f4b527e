import { timestamp } from '../domain/common.ts'
import type { Database, SessionTokenRow } from './database.ts'

export type { SessionTokenRow }

/** Session tokens that were made: their digests, never the tokens. */
export class SessionTokens {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  async insert(row: SessionTokenRow): Promise<void> {
    await this.#database.insertInto('session_tokens').values(row).execute()
  }

  async find(id: string): Promise<SessionTokenRow | undefined> {
    return this.#database.selectFrom('session_tokens').selectAll().where('id', '=', id).executeTakeFirst()
  }

  /** Whether there was one. */
  async revoke(id: string): Promise<boolean> {
    const { numDeletedRows } = await this.#database
      .deleteFrom('session_tokens')
      .where('id', '=', id)
      .executeTakeFirstOrThrow()
    return numDeletedRows > 0n
  }

  /** Ends all tokens of a session. */
  async removeOfSession(sessionId: string): Promise<void> {
    await this.#database.deleteFrom('session_tokens').where('session_id', '=', sessionId).execute()
  }

  /** Forgets those that expired before a time. */
  async expire(before: Date): Promise<void> {
    await this.#database.deleteFrom('session_tokens').where('expires_at', '<=', timestamp(before)).execute()
  }
}
