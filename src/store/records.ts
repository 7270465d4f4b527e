import { sql } from 'kysely'
import type { View as CallerView } from '../domain/caller.ts'
import type { Page } from '../domain/common.ts'
import { failpoint } from '../failpoints.ts'
import type { Database, RecordRow } from './database.ts'
import type { Events, NewEvent } from './events.ts'

/** What the store keeps of one thing that the service promised. */
export interface Entry<Request, View> {
  id: string
  /** Empty for what belongs to no session. */
  sessionId: string
  /** Whose it is; null where callers were not told apart. */
  owner: string | null
  name: string
  status: string
  live: boolean
  containerId: string | null
  nonce: string
  /**
   * Null once the container has ended for good. With `rebuilt` the original was lost with a store, and
   * one with defaults stands in its place.
   */
  request: (Request & { rebuilt?: true }) | null
  /** When the engine had started its container; absent before, and where nobody needs it. */
  started?: StartMoment | undefined
  /** What callers see. */
  view: View
}

/** Milliseconds on the clock of one boot of the host. */
export interface StartMoment {
  boot: string
  ms: number
}

export interface ListFilter {
  /** What the caller sees; all where absent. */
  view?: CallerView | undefined
  session_id?: string | undefined
  status?: string | undefined
  name?: string | undefined
  /** Leaves out the records with this status. */
  exceptStatus?: string
  limit?: number | undefined
  cursor?: string | undefined
}

const DEFAULT_LIMIT = 100

/** The records of one kind. Ids are UUIDv7, so their order is the order of creation. */
export class Records<Request, View> {
  readonly #database: Database
  readonly #kind: RecordRow['kind']
  readonly #events: Events

  constructor(database: Database, kind: RecordRow['kind'], events: Events) {
    this.#database = database
    this.#kind = kind
    this.#events = events
  }

  async insert(entry: Entry<Request, View>): Promise<void> {
    failpoint('record.insert')
    await this.#database.transaction().execute(async (transaction) => {
      await transaction
        .insertInto('records')
        .values({ kind: this.#kind, ...this.#row(entry) })
        .execute()
      failpoint('record.write')
      await this.#events.write(transaction, eventOf(this.#kind, entry))
    })
    failpoint('record.inserted')
    await this.#events.told()
  }

  /** A change of its status is an event, written with it or not at all. */
  async update(entry: Entry<Request, View>): Promise<void> {
    const { id, ...row } = this.#row(entry)
    const before = await this.#database
      .selectFrom('records')
      .select('status')
      .where('id', '=', id)
      .where('kind', '=', this.#kind)
      .executeTakeFirst()
    if (before === undefined) return
    const update = (database: Database) =>
      database.updateTable('records').set(row).where('id', '=', id).where('kind', '=', this.#kind).execute()
    if (before.status === entry.status) {
      await update(this.#database)
      return
    }
    await this.#database.transaction().execute(async (transaction) => {
      await update(transaction)
      failpoint('record.write')
      await this.#events.write(transaction, eventOf(this.#kind, entry))
    })
    failpoint('record.updated')
    await this.#events.told()
  }

  async get(id: string): Promise<Entry<Request, View> | undefined> {
    const row = await this.#database
      .selectFrom('records')
      .selectAll()
      .where('id', '=', id)
      .where('kind', '=', this.#kind)
      .executeTakeFirst()
    return row && this.#entry(row)
  }

  /** Id of the newest; undefined where there is none. */
  async newestId(): Promise<string | undefined> {
    const row = await this.#database
      .selectFrom('records')
      .select('id')
      .where('kind', '=', this.#kind)
      .orderBy('id', 'desc')
      .limit(1)
      .executeTakeFirst()
    return row?.id
  }

  /** The newest of a name, but for those with a status. */
  async find(name: string, exceptStatus?: string): Promise<Entry<Request, View> | undefined> {
    let query = this.#database.selectFrom('records').selectAll().where('kind', '=', this.#kind).where('name', '=', name)
    if (exceptStatus !== undefined) query = query.where('status', '!=', exceptStatus)
    const row = await query.orderBy('id', 'desc').limit(1).executeTakeFirst()
    return row && this.#entry(row)
  }

  /** Forgets a record; harmless where there is none. */
  async remove(id: string): Promise<void> {
    await this.#database.deleteFrom('records').where('kind', '=', this.#kind).where('id', '=', id).execute()
  }

  /** Newest first. */
  async list(filter: ListFilter): Promise<Page<View>> {
    const limit = filter.limit ?? DEFAULT_LIMIT
    let query = this.#database.selectFrom('records').select(['id', 'record']).where('kind', '=', this.#kind)
    if (filter.session_id !== undefined) query = query.where('session_id', '=', filter.session_id)
    if (filter.status !== undefined) query = query.where('status', '=', filter.status)
    if (filter.exceptStatus !== undefined) query = query.where('status', '!=', filter.exceptStatus)
    if (filter.name !== undefined) query = query.where('name', '=', filter.name)
    if (filter.cursor !== undefined) query = query.where('id', '<', filter.cursor)
    if (filter.view !== undefined) query = query.where('owner', '=', filter.view.owner)
    if (filter.view?.session !== undefined) query = query.where('session_id', '=', filter.view.session)
    const rows = await query
      .orderBy('id', 'desc')
      .limit(limit + 1)
      .execute()
    const shown = rows.slice(0, limit)
    return {
      items: shown.map((row) => JSON.parse(row.record) as View),
      next_cursor: rows.length > limit ? (shown.at(-1)?.id ?? null) : null,
    }
  }

  /**
   * Ids of those that were made before a time and hold nothing any more, oldest first. An id is its
   * prefix and a UUIDv7, which begins with its time.
   */
  async endedBefore(prefix: string, time: Date, limit: number): Promise<string[]> {
    const hex = time.getTime().toString(16).padStart(12, '0')
    const rows = await this.#database
      .selectFrom('records')
      .select('id')
      .where('kind', '=', this.#kind)
      .where('id', '<', `${prefix}_${hex.slice(0, 8)}-${hex.slice(8)}`)
      .where('live', '=', 0)
      // One that keeps its container is claimed by its request.
      .where('request', 'is', null)
      .orderBy('id')
      .limit(limit)
      .execute()
    return rows.map(({ id }) => id)
  }

  /** Lets go of the requests of ended records whose container, kept on request, is not among these. */
  async releaseKept(present: ReadonlySet<string>): Promise<void> {
    const kept = await this.#database
      .selectFrom('records')
      .select(['id', 'container_id'])
      .where('kind', '=', this.#kind)
      .where('live', '=', 0)
      .where('request', 'is not', null)
      .execute()
    const gone = kept.filter(({ container_id }) => container_id === null || !present.has(container_id))
    for (const { id } of gone) {
      await this.#database.updateTable('records').set({ request: null }).where('id', '=', id).execute()
    }
  }

  /** Those that may still change or hold resources, but for those with a status; oldest first. */
  async live({ exceptStatus = '' } = {}): Promise<Entry<Request, View>[]> {
    const rows = await this.#database
      .selectFrom('records')
      .selectAll()
      .where('kind', '=', this.#kind)
      .where('live', '=', 1)
      .where('status', '!=', exceptStatus)
      .orderBy('id')
      .execute()
    return rows.map((row) => this.#entry(row))
  }

  /** Single numbers of the requests of those with a status, by JSON path, without reading these whole; oldest first. */
  async requestNumbers<Name extends string>(
    status: string,
    paths: Record<Name, string>,
  ): Promise<{ id: string; sessionId: string; owner: string | null; numbers: Record<Name, number> }[]> {
    const names = Object.keys(paths) as Name[]
    const rows = await this.#database
      .selectFrom('records')
      .select(['id', 'session_id', 'owner'])
      .select(names.map((name) => sql<number>`json_extract(request, ${paths[name]})`.as(name)))
      .where('kind', '=', this.#kind)
      .where('live', '=', 1)
      .where('status', '=', status)
      .orderBy('id')
      .execute()
    return rows.map((row) => ({
      id: row.id,
      sessionId: row.session_id,
      owner: row.owner,
      numbers: Object.fromEntries(names.map((name) => [name, (row as Record<string, unknown>)[name]])) as Record<
        Name,
        number
      >,
    }))
  }

  async count(
    filter: {
      session_id?: string
      status?: string
      exceptStatus?: string
      live?: boolean
      view?: CallerView | undefined
    } = {},
  ): Promise<number> {
    let query = this.#database
      .selectFrom('records')
      .select((eb) => eb.fn.countAll<number>().as('count'))
      .where('kind', '=', this.#kind)
    if (filter.session_id !== undefined) query = query.where('session_id', '=', filter.session_id)
    if (filter.status !== undefined) query = query.where('status', '=', filter.status)
    if (filter.exceptStatus !== undefined) query = query.where('status', '!=', filter.exceptStatus)
    if (filter.live !== undefined) query = query.where('live', '=', filter.live ? 1 : 0)
    if (filter.view !== undefined) query = query.where('owner', '=', filter.view.owner)
    if (filter.view?.session !== undefined) query = query.where('session_id', '=', filter.view.session)
    const { count } = await query.executeTakeFirstOrThrow()
    return count
  }

  #row(entry: Entry<Request, View>): Omit<RecordRow, 'kind'> {
    return {
      id: entry.id,
      session_id: entry.sessionId,
      owner: entry.owner,
      name: entry.name,
      status: entry.status,
      live: entry.live ? 1 : 0,
      container_id: entry.containerId,
      nonce: entry.nonce,
      request: entry.request === null ? null : JSON.stringify(entry.request),
      record: JSON.stringify(entry.view),
      started: entry.started === undefined ? null : JSON.stringify(entry.started),
    }
  }

  #entry(row: RecordRow): Entry<Request, View> {
    return {
      id: row.id,
      sessionId: row.session_id,
      owner: row.owner,
      name: row.name,
      status: row.status,
      live: row.live === 1,
      containerId: row.container_id,
      nonce: row.nonce,
      request: row.request === null ? null : (JSON.parse(row.request) as Request & { rebuilt?: true }),
      view: JSON.parse(row.record) as View,
      ...(row.started === null ? {} : { started: JSON.parse(row.started) as StartMoment }),
    }
  }
}

/** What an event tells of a record: who it is, and how it ended. */
const TOLD = [
  'execution_id',
  'tool_name',
  'relic_id',
  'relic_name',
  'worker_id',
  'exec_id',
  'container_id',
  'exit_code',
  'failure',
] as const

function eventOf<Request, View>(
  kind: RecordRow['kind'],
  { status, sessionId, owner, view }: Entry<Request, View>,
): NewEvent {
  const fields = view as Record<string, unknown>
  const told = TOLD.filter((name) => name in fields).map((name) => [name, fields[name]])
  return {
    type: `${kind}.${status}`,
    session_id: sessionId === '' ? null : sessionId,
    owner,
    data: { status, ...Object.fromEntries(told) },
  }
}
