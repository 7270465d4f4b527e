import type { OwnedKind } from '../domain/access.ts'
import { type Caller, canSee, type Owned } from '../domain/caller.ts'
import { unknownResource } from '../errors.ts'
import type { Database } from './database.ts'

/** Status of a worker's record that was deleted: the name is free again. */
const DELETED = 'deleted'

/**
 * Whose things are: the one place that decides whether a caller may know of them. What is another's is
 * told exactly as what there is not.
 */
export class Ownership {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** Throws `not_found` for what is another's, and for what there is not unless it may be new. */
  async require(
    caller: Caller,
    kind: OwnedKind,
    id: string,
    { mayBeNew = false, mayBeGone = false } = {},
  ): Promise<void> {
    // Who sees all is told by whoever acts on it.
    if (caller.reach === 'all') return
    const owned = await this.of(kind, id, !mayBeGone)
    if (owned === undefined) {
      // A session token makes nothing outside its session.
      if (mayBeNew && (kind !== 'session' || caller.session === undefined)) return
      throw unknownResource(kind, id)
    }
    if (!canSee(caller, owned)) throw unknownResource(kind, id)
  }

  /** Undefined where there is none. `named` leaves out workers of the name that were deleted. */
  async of(kind: OwnedKind, id: string, named = false): Promise<Owned | undefined> {
    if (kind === 'session') {
      const row = await this.#database
        .selectFrom('sessions')
        .select(['owner', 'session_id'])
        .where('session_id', '=', id)
        .executeTakeFirst()
      return row && { owner: row.owner, sessionId: row.session_id }
    }
    if (kind === 'worker') return this.#worker(id, named)
    if (kind === 'container') return (await this.#record('container_id', id)) ?? (await this.#named(id))
    return this.#record('id', id, kind)
  }

  /** Of these ids of records, those that a caller sees. */
  async visible(caller: Caller, ids: readonly string[]): Promise<ReadonlySet<string>> {
    if (caller.reach === 'all' || ids.length === 0) return new Set(ids)
    const rows = await this.#database
      .selectFrom('records')
      .select(['id', 'owner', 'session_id'])
      .where('id', 'in', ids)
      .execute()
    return new Set(rows.filter((row) => canSee(caller, ownedOf(row))).map(({ id }) => id))
  }

  async #named(id: string): Promise<Owned | undefined> {
    return (await this.#record('id', id)) ?? (await this.#worker(id, true))
  }

  async #record(column: 'id' | 'container_id', id: string, kind?: 'tool' | 'relic' | 'exec') {
    let query = this.#database.selectFrom('records').select(['owner', 'session_id']).where(column, '=', id)
    if (kind !== undefined) query = query.where('kind', '=', kind)
    const row = await query.executeTakeFirst()
    return row && ownedOf(row)
  }

  /** The worker that has the name, or had it last. */
  async #worker(name: string, live: boolean): Promise<Owned | undefined> {
    const rows = await this.#database
      .selectFrom('records')
      .select(['owner', 'session_id', 'status'])
      .where('kind', '=', 'worker')
      .where('name', '=', name)
      .orderBy('id', 'desc')
      .execute()
    const row = rows.find(({ status }) => status !== DELETED) ?? (live ? undefined : rows[0])
    return row && ownedOf(row)
  }
}

function ownedOf({ owner, session_id }: { owner: string | null; session_id: string }): Owned {
  return { owner, sessionId: session_id === '' ? null : session_id }
}

/** Throws as for what there is not, where a caller does not see what there is. */
export function requireOwned(caller: Caller, kind: OwnedKind, id: string, owned: Owned): void {
  if (!canSee(caller, owned)) throw unknownResource(kind, id)
}
