import { timestamp } from '../domain/common.ts'
import type { Database } from './database.ts'

/** What a key was first used for. */
export interface KeyClaim {
  key: string
  /** Of the call and its body. */
  digest: string
  /** Id of what the call makes. */
  resource: string
}

/** Idempotency keys of callers, kept between starts. */
export class IdempotencyKeys {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** Claims a key, or answers whose it is already. */
  async claim(claim: KeyClaim): Promise<KeyClaim & { fresh: boolean }> {
    const { key, digest, resource } = claim
    const inserted = this.#database.run(
      'insert into idempotency_keys (key, digest, resource, created_at) values (?, ?, ?, ?) on conflict do nothing',
      key,
      digest,
      resource,
      timestamp(),
    )
    const present = this.#database.first<KeyClaim>(
      'select key, digest, resource from idempotency_keys where key = ?',
      key,
    )
    return inserted > 0 || present === undefined ? { ...claim, fresh: true } : { ...present, fresh: false }
  }

  /** Forgets the keys that were claimed before a time. */
  async expire(before: Date): Promise<void> {
    this.#database.run('delete from idempotency_keys where created_at < ?', timestamp(before))
  }

  /** Gives a key back: what it was claimed for was never made. */
  async release(key: string): Promise<void> {
    this.#database.run('delete from idempotency_keys where key = ?', key)
  }
}
