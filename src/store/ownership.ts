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
      const row = this.#database.first<OwnerRow>('select owner, session_id from sessions where session_id = ?', id)
      return row && { owner: row.owner, sessionId: row.session_id }
    }
    if (kind === 'worker') return this.#worker(id, named)
    if (kind === 'container') return this.#record('container_id = ?', id) ?? this.#named(id)
    return this.#record('id = ? and kind = ?', id, kind)
  }

  /** Of these ids of records, those that a caller sees. */
  async visible(caller: Caller, ids: readonly string[]): Promise<ReadonlySet<string>> {
    if (caller.reach === 'all' || ids.length === 0) return new Set(ids)
    const rows = this.#database.all<OwnerRow & { id: string }>(
      'select id, owner, session_id from records where id in (select value from json_each(?))',
      JSON.stringify(ids),
    )
    return new Set(rows.filter((row) => canSee(caller, ownedOf(row))).map(({ id }) => id))
  }

  #named(id: string): Owned | undefined {
    return this.#record('id = ?', id) ?? this.#worker(id, true)
  }

  #record(condition: string, ...values: string[]): Owned | undefined {
    const row = this.#database.first<OwnerRow>(`select owner, session_id from records where ${condition}`, ...values)
    return row && ownedOf(row)
  }

  /** The worker that has the name, or had it last. */
  #worker(name: string, live: boolean): Owned | undefined {
    const newest = (condition: string) =>
      this.#database.first<OwnerRow>(
        `select owner, session_id from records where kind = 'worker' and name = ? ${condition} order by id desc limit 1`,
        name,
      )
    const row = newest(`and status != '${DELETED}'`) ?? (live ? undefined : newest(''))
    return row && ownedOf(row)
  }
}

interface OwnerRow {
  owner: string | null
  session_id: string
}

function ownedOf({ owner, session_id }: OwnerRow): Owned {
  return { owner, sessionId: session_id === '' ? null : session_id }
}

/** Throws as for what there is not, where a caller does not see what there is. */
export function requireOwned(caller: Caller, kind: OwnedKind, id: string, owned: Owned): void {
  if (!canSee(caller, owned)) throw unknownResource(kind, id)
}
