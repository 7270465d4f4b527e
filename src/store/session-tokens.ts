import { timestamp } from '../domain/common.ts'
import type { Database } from './database.ts'

/** A token that calls for one session. */
export interface SessionTokenRow {
  id: string
  /** Of the whole token, in hex. */
  sha256: string
  session_id: string
  /** Of the key that made it. */
  owner: string
  key_id: string
  /** Separated by spaces. */
  scopes: string
  created_at: string
  expires_at: string
}

/** Session tokens that were made: their digests, never the tokens. */
export class SessionTokens {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  async insert(row: SessionTokenRow): Promise<void> {
    const { id, sha256, session_id, owner, key_id, scopes, created_at, expires_at } = row
    this.#database.run(
      `insert into session_tokens (id, sha256, session_id, owner, key_id, scopes, created_at, expires_at)
       values (?, ?, ?, ?, ?, ?, ?, ?)`,
      ...[id, sha256, session_id, owner, key_id, scopes, created_at, expires_at],
    )
  }

  async find(id: string): Promise<SessionTokenRow | undefined> {
    return this.#database.first<SessionTokenRow>('select * from session_tokens where id = ?', id)
  }

  /** Whether there was one. */
  async revoke(id: string): Promise<boolean> {
    const revoked = this.#database.run('delete from session_tokens where id = ?', id)
    return revoked > 0
  }

  /** Ends all tokens of a session. */
  async removeOfSession(sessionId: string): Promise<void> {
    this.#database.run('delete from session_tokens where session_id = ?', sessionId)
  }

  /** Forgets those that expired before a time. */
  async expire(before: Date): Promise<void> {
    this.#database.run('delete from session_tokens where expires_at <= ?', timestamp(before))
  }
}
