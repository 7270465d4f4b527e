/** SQLite through Kysely: node:sqlite in WAL mode, statements prepared once. */
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { type Generated, Kysely, SqliteDialect } from 'kysely'
import { AppError, messageOf } from '../errors.ts'
import { migrate } from './migrations.ts'

export interface Tables {
  instance: { id: string; created_at: string }
  records: RecordRow
  sessions: SessionRow
  events: { id: Generated<number>; at: string; type: string; session_id: string | null; data: string }
  idempotency_keys: { key: string; digest: string; resource: string; created_at: string }
}

export interface SessionRow {
  session_id: string
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

const BUSY_TIMEOUT_MS = 5_000
const CACHED_STATEMENTS = 256

/** Opens (and brings up to date) the database at a path; `:memory:` for one that is not kept. */
export async function openDatabase(path: string): Promise<Database> {
  const sqlite = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS })
  sqlite.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON')
  const database: Database = new Kysely<Tables>({ dialect: new SqliteDialect({ database: adapt(sqlite) }) })
  await migrate(database)
  return database
}

/** node:sqlite in the form that Kysely's dialect expects. */
function adapt(sqlite: DatabaseSync) {
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
  return {
    close: () => sqlite.close(),
    prepare: (sql: string) => {
      const statement = told(() => statementOf(sql))
      type Values = Parameters<StatementSync['all']>
      return {
        reader: statement.columns().length > 0,
        all: (parameters: readonly unknown[]) => told(() => statement.all(...(parameters as Values))),
        run: (parameters: readonly unknown[]) => told(() => statement.run(...(parameters as Values))),
        iterate: (parameters: readonly unknown[]) => statement.iterate(...(parameters as Values)),
      }
    },
  }
}

/** Primary result codes of SQLite that are no fault of a statement: https://www.sqlite.org/rescode.html */
const SQLITE_BUSY = 5
const SQLITE_IOERR = 10
const SQLITE_FULL = 13
const RETRY_AFTER_SECONDS = 5

/** Tells a disk that is full and a database that somebody else locks as what they are. */
function told<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    const code = Number((error as { errcode?: unknown }).errcode) & 0xff
    const retry = { cause: error, retryAfterSeconds: RETRY_AFTER_SECONDS }
    if (code === SQLITE_FULL) {
      throw new AppError('disk_low', 'The store cannot be written: its disk is full', {
        ...retry,
        hint: 'Have the operator make room where CO_DATA_DIR is.',
      })
    }
    if (code === SQLITE_BUSY || code === SQLITE_IOERR) {
      throw new AppError('store_unavailable', `The store cannot be used: ${messageOf(error)}`, {
        ...retry,
        hint: 'Have the operator look who else has store.sqlite open, and whether its disk is well.',
      })
    }
    throw error
  }
}
