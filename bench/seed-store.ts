/** A store as a service leaves it that has run many tools: written by the store's own parts, without running any. */

import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { timestamp } from '../src/domain/common.ts'
import { ExecuteTool, type ToolRun } from '../src/domain/tool.ts'
import { newId } from '../src/managers/names.ts'
import { queuedRun } from '../src/managers/tool-manager.ts'
import { type Database, openDatabase, type Value } from '../src/store/database.ts'
import { encodeRecord, segmentName } from '../src/store/spool-format.ts'
import { Store } from '../src/store/store.ts'
import type { Bench } from './bench.ts'
import { greeting } from './tool-runs.ts'

export const STORED_RUNS = 100_000
const SESSIONS = 100
const BATCH = 1_000
const STATES = ['queued', 'preparing', 'running', 'completed'] as const

/** A folder with a store of 100,000 finished runs, each with its log and, of the last, their events; made once in a bench. */
export function seededStore(bench: Bench): Promise<string> {
  return bench.once('seeded store', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'co-bench-seeded-'))
    bench.atEnd(() => rm(folder, { recursive: true, force: true }))
    await (await Store.open(folder)).close()
    const database = await openDatabase(join(folder, 'store.sqlite'))
    try {
      await seed(database, folder, bench.signal)
    } finally {
      await database.close()
    }
    return folder
  })
}

async function seed(database: Database, folder: string, signal: AbortSignal): Promise<void> {
  const at = timestamp()
  database.atomically(() => {
    for (let index = 0; index < SESSIONS; index++)
      insert(database, 'sessions', { session_id: `stored-${index}`, created_at: at, last_activity_at: at })
  })
  for (let start = 0; start < STORED_RUNS; start += BATCH) {
    signal.throwIfAborted()
    const runs = Array.from({ length: BATCH }, (_, index) => endedRun(`stored-${(start + index) % SESSIONS}`))
    database.atomically(() => {
      for (const run of runs) insert(database, 'records', rowOf(run))
      // Of the events the latest are kept, which are those of a quarter of the runs.
      if (start < STORED_RUNS - STORED_RUNS / STATES.length) return
      for (const event of runs.flatMap(eventsOf)) insert(database, 'events', event)
    })
    for (const run of runs) writeLog(folder, run)
    // A signal to end is heard between two batches.
    await nextTurn()
  }
}

function insert(database: Database, table: string, row: Record<string, Value>): void {
  const columns = Object.keys(row)
  const places = columns.map(() => '?').join(', ')
  database.run(`insert into ${table} (${columns.join(', ')}) values (${places})`, ...Object.values(row))
}

function endedRun(session: string): ToolRun {
  const id = newId('exec')
  const at = timestamp()
  return {
    ...queuedRun(id, ExecuteTool.parse(greeting(session)), null),
    image_id: `sha256:${'0'.repeat(64)}`,
    container_id: randomUUID().replaceAll('-', '').padEnd(64, '0'),
    status: 'completed',
    exit_code: 0,
    stdout: 'hello\n',
    stdout_bytes: 6,
    started_at: at,
    completed_at: at,
    duration_ms: 25,
    timings: { queue_ms: 1, image_ms: 1, create_ms: 6, start_ms: 140, run_ms: 25, collect_ms: 2 },
  }
}

function rowOf(run: ToolRun): Record<string, Value> {
  return {
    id: run.execution_id,
    kind: 'tool',
    session_id: run.session_id,
    owner: null,
    name: run.tool_name,
    status: run.status,
    live: 0,
    container_id: run.container_id,
    nonce: randomUUID(),
    request: null,
    record: JSON.stringify(run),
    started: null,
  }
}

function eventsOf(run: ToolRun): Record<string, Value>[] {
  const { execution_id, tool_name, container_id, session_id } = run
  return STATES.map((status) => ({
    at: run.queued_at,
    type: `tool.${status}`,
    session_id,
    owner: null,
    data: JSON.stringify({ status, execution_id, tool_name, container_id, exit_code: 0, failure: null }),
  }))
}

function writeLog(folder: string, run: ToolRun): void {
  const spool = join(folder, 'spool', run.execution_id)
  mkdirSync(spool, { mode: 0o700 })
  const at = new Date(run.queued_at)
  const states = STATES.map((status) => encodeRecord('state', at, Buffer.from(JSON.stringify({ status, at }))))
  const output = encodeRecord('stdout', at, Buffer.from(run.stdout))
  writeFileSync(join(spool, segmentName(0)), Buffer.concat([...states, output]), { mode: 0o600 })
}
