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
    const inserted = await this.#database
      .insertInto('idempotency_keys')
      .values({ ...claim, created_at: timestamp() })
      .onConflict((conflict) => conflict.column('key').doNothing())
      .executeTakeFirst()
    if ((inserted.numInsertedOrUpdatedRows ?? 0n) > 0n) return { ...claim, fresh: true }
    const present = await this.#database
      .selectFrom('idempotency_keys')
      .selectAll()
      .where('key', '=', claim.key)
      .executeTakeFirst()
    // Given back in this moment.
    if (present === undefined) return this.claim(claim)
    const { key, digest, resource } = present
    return { key, digest, resource, fresh: false }
  }

  /** Forgets the keys that were claimed before a time. */
  async expire(before: Date): Promise<void> {
    await this.#database.deleteFrom('idempotency_keys').where('created_at', '<', timestamp(before)).execute()
  }

  /** Gives a key back: what it was claimed for was never made. */
  async release(key: string): Promise<void> {
    await this.#database.deleteFrom('idempotency_keys').where('key', '=', key).execute()
  }
}
