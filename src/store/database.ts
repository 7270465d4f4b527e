/** SQLite through Kysely: node:sqlite in WAL mode, statements prepared once. */
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { type Generated, Kysely, SqliteDialect } from 'kysely'
import { CorruptStore, told } from './faults.ts'
import { migrate } from './migrations.ts'

export interface Tables {
  instance: { id: string; created_at: string }
  records: RecordRow
  sessions: SessionRow
  events: {
    id: Generated<number>
    at: string
    type: string
    session_id: string | null
    owner: string | null
    data: string
  }
  idempotency_keys: { key: string; digest: string; resource: string; created_at: string }
  session_tokens: SessionTokenRow
}

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

/** What the service promised: a tool run, a relic, a worker, or a command in one. */
export interface RecordRow {
  id: string
  kind: 'tool' | 'relic' | 'worker' | 'exec'
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

export type Database = Kysely<Tables>

/** SQLite waits for another process in place, and the service with it: not for long. */
const BUSY_TIMEOUT_MS = 1_000
const CACHED_STATEMENTS = 256

export interface OpenOptions {
  /** Called before a database that is found corrupt is closed: SQLite deletes the log of what it closes. */
  whileCorrupt?: () => Promise<void>
  /** Called once, where the database turns out to be corrupt later. */
  onCorrupt?: ((error: CorruptStore) => void) | undefined
}

/**
 * Opens (and brings up to date) the database at a path; `:memory:` for one that is not kept. Throws
 * `CorruptStore` where its file does not hold together; where it ceases to later, so does the statement
 * that finds it.
 */
export async function openDatabase(path: string, { whileCorrupt, onCorrupt }: OpenOptions = {}): Promise<Database> {
  const sqlite = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS })
  const corruption = new AbortController()
  const database: Database = new Kysely<Tables>({
    dialect: new SqliteDialect({ database: adapt(sqlite, (error) => corruption.abort(error)) }),
  })
  try {
    told(() => {
      sqlite.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
      requireSound(sqlite)
    })
    await migrate(database)
    told(() => requireReadable(sqlite))
  } catch (error) {
    try {
      if (error instanceof CorruptStore) await whileCorrupt?.()
    } finally {
      sqlite.close()
    }
    throw error
  }
  corruption.signal.addEventListener('abort', () => onCorrupt?.(corruption.signal.reason as CorruptStore))
  return database
}

/** Reads every page once, which a gigabyte takes some seconds for. */
function requireSound(sqlite: DatabaseSync): void {
  const found = sqlite.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
  if (found !== 'ok') throw new CorruptStore(String(found).replaceAll('\n', ' '))
}

/** SQLite has no checksums: a page may hold together and its text be spoiled, which would end every start. */
function requireReadable(sqlite: DatabaseSync): void {
  const spoiled = sqlite
    .prepare(
      `select id from records where live = 1 and not (json_valid(record)
       and json_valid(coalesce(request, '{}')) and json_valid(coalesce(started, '{}'))) limit 1`,
    )
    .get()
  if (spoiled !== undefined) throw new CorruptStore(`record ${String(spoiled['id'])} is not readable`)
}

/** node:sqlite in the form that Kysely's dialect expects. */
function adapt(sqlite: DatabaseSync, onCorrupt: (error: CorruptStore) => void) {
  const statements = new Map<string, StatementSync>()
  const statementOf = (sql: string): StatementSync => {
    let statement = statements.get(sql)
    if (statement === undefined) {
      if (statements.size >= CACHED_STATEMENTS) statements.clear()
      statement = sqlite.prepare(sql)
      statements.set(sql, statement)
    }
    return statement
  }
  const tried = <T>(work: () => T): T => {
    try {
      return told(work)
    } catch (error) {
      if (error instanceof CorruptStore) onCorrupt(error)
      throw error
    }
  }
  return {
    close: () => sqlite.close(),
    prepare: (sql: string) => {
      const statement = tried(() => statementOf(sql))
      type Values = Parameters<StatementSync['all']>
      return {
        reader: statement.columns().length > 0,
        all: (parameters: readonly unknown[]) => tried(() => statement.all(...(parameters as Values))),
        run: (parameters: readonly unknown[]) => {
          // A disk that is full has SQLite roll back by itself; to be told so would hide why.
          if (sql === 'rollback' && !sqlite.isTransaction) return { changes: 0, lastInsertRowid: 0 }
          return tried(() => statement.run(...(parameters as Values)))
        },
        iterate: (parameters: readonly unknown[]) => tried(() => statement.iterate(...(parameters as Values))),
      }
    },
  }
}
