/** SQLite (node:sqlite in WAL mode): statements are prepared once, and what is committed is synced beside the event loop. */
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { CorruptStore, told } from './faults.ts'
import { LogSync } from './log-sync.ts'
import { migrate } from './migrations.ts'

/** What a statement takes, and what a column holds. */
export type Value = SQLInputValue

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
  try {
    told(() => {
      // With NORMAL a commit is in the log, which outlives the process; `synced` tells when it outlives a loss of power.
      sqlite.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON')
      requireSound(sqlite)
      migrate(sqlite)
      requireReadable(sqlite)
    })
  } catch (error) {
    try {
      if (error instanceof CorruptStore) await whileCorrupt?.()
    } finally {
      sqlite.close()
    }
    throw error
  }
  return new Database(sqlite, path, onCorrupt)
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

/**
 * An open database. Each statement is carried out before its call returns, and what fails is told as
 * `disk_low`, `store_unavailable` or `CorruptStore`.
 */
export class Database {
  readonly #sqlite: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  /** Absent for a database that is not kept. */
  readonly #log: LogSync | undefined
  #onCorrupt: ((error: CorruptStore) => void) | undefined

  constructor(sqlite: DatabaseSync, path: string, onCorrupt?: (error: CorruptStore) => void) {
    this.#sqlite = sqlite
    this.#onCorrupt = onCorrupt
    this.#log = path === ':memory:' ? undefined : new LogSync(`${path}-wal`, () => this.#takeOverLog())
  }

  /** All rows that a statement answers. */
  all<Row>(sql: string, ...values: Value[]): Row[] {
    return this.#told(() => this.#statement(sql).all(...values) as Row[])
  }

  /** The first row that a statement answers; undefined where there is none. */
  first<Row>(sql: string, ...values: Value[]): Row | undefined {
    return this.#told(() => this.#statement(sql).get(...values) as Row | undefined)
  }

  /** Carries out a statement, and answers how many rows it changed. */
  run(sql: string, ...values: Value[]): number {
    return this.#told(() => {
      const changes = Number(this.#statement(sql).run(...values).changes)
      if (changes > 0) this.#log?.wrote()
      return changes
    })
  }

  /** All that `work` writes, or, where it throws, nothing of it. One within another is a part of that. */
  atomically<T>(work: () => T): T {
    if (this.#sqlite.isTransaction) return work()
    this.#execute('begin immediate')
    try {
      const result = work()
      this.#execute('commit')
      this.#log?.wrote()
      return result
    } catch (error) {
      // A disk that is full has SQLite roll back by itself.
      if (this.#sqlite.isTransaction) this.#execute('rollback')
      throw error
    }
  }

  /** Resolves once all that was written before is on the disk: no loss of power takes it back. */
  async synced(): Promise<void> {
    await this.#log?.done()
  }

  /** Begins to bring it there; whoever waits for it later is told where that fails. */
  sync(): void {
    this.#log?.done().catch(() => {})
  }

  async close(): Promise<void> {
    await this.#log?.close()
    // The last to close it has SQLite take the log over, and sync what that leaves.
    this.#sqlite.close()
  }

  #takeOverLog(): void {
    const row = this.first<{ busy: number }>('PRAGMA wal_checkpoint(TRUNCATE)')
    if (row?.busy !== 0) throw new Error('another process reads the log of the store')
  }

  #execute(sql: string): void {
    this.#told(() => this.#statement(sql).run())
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      if (this.#statements.size >= CACHED_STATEMENTS) this.#statements.clear()
      statement = this.#sqlite.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  #told<T>(work: () => T): T {
    try {
      return told(work)
    } catch (error) {
      if (error instanceof CorruptStore) {
        this.#onCorrupt?.(error)
        this.#onCorrupt = undefined
      }
      throw error
    }
  }
}
