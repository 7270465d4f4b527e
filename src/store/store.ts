import { randomUUID } from 'node:crypto'
import { chmod, mkdir, open } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Caller } from '../domain/caller.ts'
import { timestamp } from '../domain/common.ts'
import type { Exec, ExecRequest } from '../domain/exec.ts'
import type { Relic, StartRelic } from '../domain/relic.ts'
import type { ExecuteTool, ToolRun } from '../domain/tool.ts'
import type { Worker } from '../domain/worker.ts'
import type { StartWorker } from '../domain/worker-spec.ts'
import { Artifacts } from './artifacts.ts'
import { type Database, openDatabase } from './database.ts'
import { Events } from './events.ts'
import { CorruptStore } from './faults.ts'
import { IdempotencyKeys } from './idempotency-keys.ts'
import { readInstance, writeInstance } from './instance-file.ts'
import { Lease } from './lease.ts'
import { Ownership } from './ownership.ts'
import { type Entry, Records } from './records.ts'
import { SessionTokens } from './session-tokens.ts'
import { Sessions } from './sessions.ts'
import { setAside } from './set-aside.ts'
import { Spools } from './spools.ts'

export type ToolRecords = Records<ExecuteTool, ToolRun>
export type RelicRecords = Records<StartRelic, Relic>
export type WorkerRecords = Records<StartWorker, Worker>
export type ExecRecords = Records<ExecRequest, Exec>

export interface StoreOptions {
  /** Called once, where the database turns out to be corrupt while it is used: who uses it has to end. */
  onCorrupt?: (error: CorruptStore) => void
}

/** What was found where the store is, beside its database. */
interface Found {
  instance: string
  setAside: string | undefined
  needsRebuild: boolean
}

/** All that is kept between starts, in one folder: the database, the output and the artifacts. */
export class Store {
  /** UUID of this installation, which outlives the database. */
  readonly instance: string
  /** Where the database that was found is now, where that was corrupt and a new one is begun. */
  readonly setAside: string | undefined
  readonly tools: ToolRecords
  readonly relics: RelicRecords
  readonly workers: WorkerRecords
  /** Commands in workers; their `name` is the id of the worker's record. */
  readonly execs: ExecRecords
  readonly sessions: Sessions
  readonly ownership: Ownership
  readonly events: Events
  readonly idempotencyKeys: IdempotencyKeys
  readonly sessionTokens: SessionTokens
  readonly spools: Spools
  readonly artifacts: Artifacts
  readonly #database: Database
  readonly #lease: Lease
  #needsRebuild: boolean

  private constructor(folder: string, database: Database, lease: Lease, found: Found) {
    this.#database = database
    this.#lease = lease
    this.instance = found.instance
    this.setAside = found.setAside
    this.#needsRebuild = found.needsRebuild
    this.events = new Events(database)
    this.tools = new Records(database, 'tool', this.events)
    this.relics = new Records(database, 'relic', this.events)
    this.workers = new Records(database, 'worker', this.events)
    this.execs = new Records(database, 'exec', this.events)
    this.sessions = new Sessions(database, this.events)
    this.ownership = new Ownership(database)
    this.idempotencyKeys = new IdempotencyKeys(database)
    this.sessionTokens = new SessionTokens(database)
    this.spools = new Spools(join(folder, 'spool'))
    this.artifacts = new Artifacts(join(folder, 'artifacts'))
  }

  /**
   * Opens the store in a folder, which is made where it is missing, readable to its owner alone. A
   * database that is corrupt is set aside, never deleted, and a new one begun. A `ConfigError` where
   * another process has the store.
   */
  static async open(folder: string, { onCorrupt }: StoreOptions = {}): Promise<Store> {
    for (const path of [folder, join(folder, 'spool'), join(folder, 'artifacts')]) {
      await mkdir(path, { recursive: true, mode: 0o700 })
    }
    const lease = Lease.take(folder)
    try {
      await keepPrivate(join(folder, 'store.sqlite'))
      const { database, kept } = await openOrBegin(join(folder, 'store.sqlite'), onCorrupt)
      const store = new Store(folder, database, lease, { ...(await instanceOf(folder, database)), setAside: kept })
      if (kept !== undefined || store.needsRebuild)
        await store.events.beginAnew({ set_aside: kept === undefined ? null : basename(kept) })
      return store
    } catch (error) {
      lease.release()
      throw error
    }
  }

  /**
   * Resolves once all that was written before is on the disk, so that no loss of power takes it back; the end
   * of the process never does. To be waited for before anybody relies on it: before a container is made or
   * removed, before a call is answered. `disk_low` or `store_unavailable` where the disk does not take it.
   */
  synced(): Promise<void> {
    return this.#database.synced()
  }

  /** Begins to bring it there, for those who wait for that soon. */
  sync(): void {
    this.#database.sync()
  }

  /** Accepts a run: the activity of its session, which may begin with it, and its record, both or neither. */
  async accept(entry: Entry<ExecuteTool, ToolRun>, caller: Caller): Promise<void> {
    await this.tools.insert(entry, () => this.sessions.use(entry.sessionId, caller))
  }

  /** Stores the end of a run, and the activity of its session that it is. */
  async settle(entry: Entry<ExecuteTool, ToolRun>): Promise<void> {
    await this.tools.update(entry, () => this.sessions.active(entry.sessionId))
    this.sync()
  }

  /**
   * The database is newer than the instance: it knows nothing of what the instance has on the engine.
   * True, also over restarts, until `rebuilt` is called.
   */
  get needsRebuild(): boolean {
    return this.#needsRebuild
  }

  /** The database has all that can be known of what the instance has on the engine. */
  async rebuilt(): Promise<void> {
    await noteInstance(this.#database, this.instance)
    this.#needsRebuild = false
  }

  async close(): Promise<void> {
    await this.spools.close()
    await this.#database.close()
    this.#lease.release()
  }
}

/** A folder that was there before may be open to others: what is in the store is not for them. */
async function keepPrivate(path: string): Promise<void> {
  // SQLite gives the files beside it the mode that it has.
  await (await open(path, 'a', 0o600)).close()
  for (const file of [path, `${path}-wal`, `${path}-shm`]) {
    await chmod(file, 0o600).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    })
  }
}

async function openOrBegin(path: string, onCorrupt: StoreOptions['onCorrupt']) {
  let kept: string | undefined
  const whileCorrupt = async () => {
    kept = await setAside(path)
  }
  try {
    return { database: await openDatabase(path, { whileCorrupt, onCorrupt }), kept }
  } catch (error) {
    if (!(error instanceof CorruptStore)) throw error
    return { database: await openDatabase(path, { onCorrupt }), kept }
  }
}

/** The database's word counts; one that does not know its instance yet is of the instance in the file. */
async function instanceOf(folder: string, database: Database): Promise<Pick<Found, 'instance' | 'needsRebuild'>> {
  const row = database.first<{ id: string }>('select id from instance')
  const inFile = await readInstance(folder)
  const instance = row?.id ?? inFile ?? randomUUID()
  if (instance !== inFile) await writeInstance(folder, instance)
  const needsRebuild = row === undefined && inFile !== undefined
  if (row === undefined && !needsRebuild) await noteInstance(database, instance)
  return { instance, needsRebuild }
}

async function noteInstance(database: Database, id: string): Promise<void> {
  database.run('insert into instance (id, created_at) values (?, ?) on conflict do nothing', id, timestamp())
  await database.synced()
}
