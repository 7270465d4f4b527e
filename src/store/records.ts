import type { View as CallerView } from '../domain/caller.ts'
import type { Page } from '../domain/common.ts'
import { failpoint } from '../failpoints.ts'
import type { Database, Value } from './database.ts'
import type { Events, NewEvent } from './events.ts'
import { RecentTexts } from './recent-texts.ts'
import { Where } from './where.ts'

export type RecordKind = 'tool' | 'relic' | 'worker' | 'exec'

/** What the service promised: a tool run, a relic, a worker, or a command in one. */
interface RecordRow {
  id: string
  session_id: string
  /** Its session's; of what has no session, whoever made it. Null where callers were not told apart. */
  owner: string | null
  name: string
  status: string
  /** 1 while it may still change or hold resources. */
  live: number
  /** Engine id, once the engine answered it. */
  container_id: string | null
  /** Of the latest attempt at a create: on the container's labels too. */
  nonce: string
  /** What the caller asked for, as JSON; null once nothing needs it. */
  request: string | null
  /** What callers see, as JSON. */
  record: string
  /** When the engine had started it, on the clock of the host's boot: as JSON; null before. */
  started: string | null
}

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

export interface RecordFilter {
  /** What the caller sees; all where absent. */
  view?: CallerView | undefined
  session_id?: string | undefined
  status?: string | undefined
  name?: string | undefined
  /** Leaves out the records with this status. */
  exceptStatus?: string
  live?: boolean
}

export interface ListFilter extends Omit<RecordFilter, 'live'> {
  limit?: number | undefined
  cursor?: string | undefined
}

const DEFAULT_LIMIT = 100

const COLUMNS = 'id, session_id, owner, name, status, live, container_id, nonce, request, record, started'

/** The records of one kind. Ids are UUIDv7, so their order is the order of creation. */
export class Records<Request, View> {
  readonly #database: Database
  readonly #kind: RecordKind
  readonly #events: Events
  /** Of records that have ended, and were asked for lately. */
  readonly #ended = new RecentTexts()

  constructor(database: Database, kind: RecordKind, events: Events) {
    this.#database = database
    this.#kind = kind
    this.#events = events
  }

  /** `along` writes in the same transaction. */
  async insert(entry: Entry<Request, View>, along: () => void = () => {}): Promise<void> {
    failpoint('record.insert')
    this.#database.atomically(() => {
      along()
      this.#add(entry)
    })
    failpoint('record.inserted')
    this.#events.told()
  }

  /** A change of its status is an event, written with it or not at all. `along` writes in the same transaction. */
  async update(entry: Entry<Request, View>, along: () => void = () => {}): Promise<void> {
    const isTold = this.#database.atomically(() => {
      along()
      return this.#change(entry)
    })
    if (!isTold) return
    failpoint('record.updated')
    this.#events.told()
  }

  #add(entry: Entry<Request, View>): void {
    const row = { ...rowOf(entry), request: requestOf(entry) }
    const columns = Object.keys(row)
    this.#database.run(
      `insert into records (kind, ${columns.join(', ')}) values (?${', ?'.repeat(columns.length)})`,
      this.#kind,
      ...Object.values(row),
    )
    failpoint('record.write')
    this.#events.write(eventOf(this.#kind, entry))
  }

  /** True where its event is to be told. */
  #change(entry: Entry<Request, View>): boolean {
    const { id } = entry
    const before = this.#database.first<Partial<RecordRow> & { asked: number }>(
      `select id, session_id, owner, name, status, live, container_id, request is not null as asked
       from records where id = ? and kind = ?`,
      id,
      this.#kind,
    )
    if (before === undefined) return false
    this.#ended.delete(id)
    const row: Partial<RecordRow> = rowOf(entry)
    // A request never changes, and may be large: it is only let go of.
    if ((before.asked === 1) !== (entry.request !== null)) row.request = requestOf(entry)
    // What has an index and stays is left out: SQLite would take it out of the index and put it back.
    const changes = Object.entries(row).filter(([column, value]) => before[column as keyof RecordRow] !== value)
    this.#database.run(
      `update records set ${changes.map(([column]) => `${column} = ?`).join(', ')} where id = ?`,
      ...changes.map(([, value]) => value as Value),
      id,
    )
    if (before.status === entry.status) return false
    failpoint('record.write')
    this.#events.write(eventOf(this.#kind, entry))
    return true
  }

  async get(id: string): Promise<Entry<Request, View> | undefined> {
    return this.#first(new Where().and('id = ?', id).and('kind = ?', this.#kind), '')
  }

  /** What callers see of one that has ended, as it is stored; undefined where there is none, or it may still change. */
  async endedJson(id: string): Promise<string | undefined> {
    const known = this.#ended.get(id)
    if (known !== undefined) return known
    const sql = 'select record from records where id = ? and kind = ? and live = 0'
    const json = this.#database.first<Pick<RecordRow, 'record'>>(sql, id, this.#kind)?.record
    if (json !== undefined) this.#ended.set(id, json)
    return json
  }

  /** Id of the newest; undefined where there is none. */
  async newestId(): Promise<string | undefined> {
    const sql = 'select id from records where kind = ? order by id desc limit 1'
    return this.#database.first<{ id: string }>(sql, this.#kind)?.id
  }

  /** The newest of a name, but for those with a status. */
  async find(name: string, exceptStatus?: string): Promise<Entry<Request, View> | undefined> {
    const where = this.#where().and('name = ?', name).and('status != ?', exceptStatus)
    return this.#first(where, 'order by id desc limit 1')
  }

  /** Forgets records; harmless where there are none. */
  async remove(...ids: string[]): Promise<void> {
    this.#database.atomically(() => {
      for (const id of ids) {
        this.#ended.delete(id)
        this.#database.run('delete from records where id = ? and kind = ?', id, this.#kind)
      }
    })
  }

  /** Newest first. */
  async list(filter: ListFilter): Promise<Page<View>> {
    const limit = filter.limit ?? DEFAULT_LIMIT
    const where = this.#matching(filter).and('id < ?', filter.cursor)
    const rows = this.#database.all<Pick<RecordRow, 'id' | 'record'>>(
      `select id, record from records ${where.sql} order by id desc limit ?`,
      ...where.values,
      limit + 1,
    )
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
    const rows = this.#database.all<{ id: string }>(
      // One that keeps its container is claimed by its request.
      'select id from records where kind = ? and id < ? and live = 0 and request is null order by id limit ?',
      this.#kind,
      `${prefix}_${hex.slice(0, 8)}-${hex.slice(8)}`,
      limit,
    )
    return rows.map(({ id }) => id)
  }

  /** Lets go of the requests of ended records whose container, kept on request, is not among these. */
  async releaseKept(present: ReadonlySet<string>): Promise<void> {
    const kept = this.#database.all<Pick<RecordRow, 'id' | 'container_id'>>(
      'select id, container_id from records where kind = ? and live = 0 and request is not null',
      this.#kind,
    )
    const gone = kept.filter(({ container_id }) => container_id === null || !present.has(container_id))
    for (const { id } of gone) this.#database.run('update records set request = null where id = ?', id)
  }

  /** Those that may still change or hold resources, but for those with a status; oldest first. */
  async live({ exceptStatus = '' } = {}): Promise<Entry<Request, View>[]> {
    const rows = this.#database.all<RecordRow>(
      `select ${COLUMNS} from records where kind = ? and live = 1 and status != ? order by id`,
      this.#kind,
      exceptStatus,
    )
    return rows.map((row) => entryOf(row))
  }

  /** Single numbers of the requests of those with a status, by JSON path, without reading these whole; oldest first. */
  async requestNumbers<Name extends string>(
    status: string,
    paths: Record<Name, string>,
  ): Promise<{ id: string; sessionId: string; owner: string | null; numbers: Record<Name, number> }[]> {
    const names = Object.keys(paths) as Name[]
    const rows = this.#database.all<Pick<RecordRow, 'id' | 'session_id' | 'owner'> & Record<string, number>>(
      `select id, session_id, owner ${names.map((name) => `, json_extract(request, ?) as "${name}"`).join('')}
       from records where kind = ? and live = 1 and status = ? order by id`,
      ...Object.values<string>(paths),
      this.#kind,
      status,
    )
    return rows.map((row) => ({
      id: row.id,
      sessionId: row.session_id,
      owner: row.owner,
      numbers: Object.fromEntries(names.map((name) => [name, row[name]])) as Record<Name, number>,
    }))
  }

  async count(filter: RecordFilter = {}): Promise<number> {
    const where = this.#matching(filter)
    const sql = `select count(*) as count from records ${where.sql}`
    return this.#database.first<{ count: number }>(sql, ...where.values)?.count ?? 0
  }

  #matching({ session_id, view, ...filter }: RecordFilter): Where {
    const isOfSession = session_id !== undefined || view?.session !== undefined
    // One session has fewer records than an owner, a status or a name: a "+" keeps SQLite from their indexes.
    const by = (column: string) => (isOfSession ? `+${column}` : column)
    return this.#where()
      .and('session_id = ?', session_id)
      .and('session_id = ?', view?.session)
      .and(`${by('owner')} = ?`, view?.owner)
      .and(`${by('status')} = ?`, filter.status)
      .and(`${by('status')} != ?`, filter.exceptStatus)
      .and(`${by('name')} = ?`, filter.name)
      .and('live = ?', filter.live === undefined ? undefined : Number(filter.live))
  }

  #where(): Where {
    return new Where().and('kind = ?', this.#kind)
  }

  #first(where: Where, order: string): Entry<Request, View> | undefined {
    const sql = `select ${COLUMNS} from records ${where.sql} ${order}`
    const row = this.#database.first<RecordRow>(sql, ...where.values)
    return row && entryOf(row)
  }
}

/** All but the request. */
function rowOf<Request, View>(entry: Entry<Request, View>): Omit<RecordRow, 'request'> {
  return {
    id: entry.id,
    session_id: entry.sessionId,
    owner: entry.owner,
    name: entry.name,
    status: entry.status,
    live: entry.live ? 1 : 0,
    container_id: entry.containerId,
    nonce: entry.nonce,
    record: JSON.stringify(entry.view),
    started: entry.started === undefined ? null : JSON.stringify(entry.started),
  }
}

function requestOf<Request, View>({ request }: Entry<Request, View>): string | null {
  return request === null ? null : JSON.stringify(request)
}

function entryOf<Request, View>(row: RecordRow): Entry<Request, View> {
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

function eventOf<Request, View>(kind: RecordKind, { status, sessionId, owner, view }: Entry<Request, View>): NewEvent {
  const fields = view as Record<string, unknown>
  const told = TOLD.filter((name) => name in fields).map((name) => [name, fields[name]])
  return {
    type: `${kind}.${status}`,
    session_id: sessionId === '' ? null : sessionId,
    owner,
    data: { status, ...Object.fromEntries(told) },
  }
}
