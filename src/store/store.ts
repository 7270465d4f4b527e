import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { timestamp } from '../domain/common.ts'
import type { Exec, ExecRequest } from '../domain/exec.ts'
import type { Relic, StartRelic } from '../domain/relic.ts'
import type { ExecuteTool, ToolRun } from '../domain/tool.ts'
import type { Worker } from '../domain/worker.ts'
import type { StartWorker } from '../domain/worker-spec.ts'
import { Artifacts } from './artifacts.ts'
import { type Database, openDatabase } from './database.ts'
import { Events } from './events.ts'
import { IdempotencyKeys } from './idempotency-keys.ts'
import { Lease } from './lease.ts'
import { Records } from './records.ts'
import { Sessions } from './sessions.ts'
import { Spools } from './spools.ts'

export type ToolRecords = Records<ExecuteTool, ToolRun>
export type RelicRecords = Records<StartRelic, Relic>
export type WorkerRecords = Records<StartWorker, Worker>
export type ExecRecords = Records<ExecRequest, Exec>

/** All that is kept between starts, in one folder: the database, the output and the artifacts. */
export class Store {
  /** UUID of this installation, made with the store. */
  readonly instance: string
  readonly tools: ToolRecords
  readonly relics: RelicRecords
  readonly workers: WorkerRecords
  /** Commands in workers; their `name` is the id of the worker's record. */
  readonly execs: ExecRecords
  readonly sessions: Sessions
  readonly events: Events
  readonly idempotencyKeys: IdempotencyKeys
  readonly spools: Spools
  readonly artifacts: Artifacts
  readonly #database: Database
  readonly #lease: Lease

  private constructor(folder: string, database: Database, instance: string, lease: Lease) {
    this.#database = database
    this.#lease = lease
    this.instance = instance
    this.events = new Events(database)
    this.tools = new Records(database, 'tool', this.events)
    this.relics = new Records(database, 'relic', this.events)
    this.workers = new Records(database, 'worker', this.events)
    this.execs = new Records(database, 'exec', this.events)
    this.sessions = new Sessions(database, this.events)
    this.idempotencyKeys = new IdempotencyKeys(database)
    this.spools = new Spools(join(folder, 'spool'))
    this.artifacts = new Artifacts(join(folder, 'artifacts'))
  }

  /**
   * Opens the store in a folder, which is made where it is missing, readable to its owner alone. A
   * `ConfigError` where another process has it.
   */
  static async open(folder: string): Promise<Store> {
    for (const path of [folder, join(folder, 'spool'), join(folder, 'artifacts')]) {
      await mkdir(path, { recursive: true, mode: 0o700 })
    }
    const lease = Lease.take(folder)
    try {
      const database = await openDatabase(join(folder, 'store.sqlite'))
      return new Store(folder, database, await instanceOf(database), lease)
    } catch (error) {
      lease.release()
      throw error
    }
  }

  async close(): Promise<void> {
    await this.spools.close()
    await this.#database.destroy()
    this.#lease.release()
  }
}

async function instanceOf(database: Database): Promise<string> {
  const known = await database.selectFrom('instance').select('id').executeTakeFirst()
  if (known !== undefined) return known.id
  const id = randomUUID()
  await database.insertInto('instance').values({ id, created_at: timestamp() }).execute()
  return id
}
