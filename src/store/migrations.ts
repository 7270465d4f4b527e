import type { DatabaseSync } from 'node:sqlite'
import { ConfigError } from '../errors.ts'

/** In order. A step that has been released never changes: add another. */
const STEPS: readonly string[] = [
  `create table instance (id text primary key, created_at text not null);
   create table sessions (session_id text primary key, created_at text not null, last_activity_at text not null);
   create table records (id text primary key, kind text not null, session_id text not null, name text not null,
     status text not null, live integer not null, container_id text, nonce text not null, request text,
     record text not null);
   create index records_by_kind on records (kind, id);
   create index records_by_session on records (session_id, kind, id);
   create index records_live on records (kind, id) where live = 1;
   create index records_by_container on records (container_id) where container_id is not null`,

  'create index records_by_name on records (kind, name, id)',

  `create table idempotency_keys (key text primary key, digest text not null, resource text not null,
     created_at text not null);
   create index idempotency_keys_by_age on idempotency_keys (created_at)`,

  `alter table sessions add column ttl_seconds real;
   alter table sessions add column idle_timeout_seconds real;
   alter table sessions add column expires_at text`,

  `create table events (id integer primary key autoincrement, at text not null, type text not null,
     session_id text, data text not null);
   create index events_by_session on events (session_id, id)`,

  `alter table sessions add column quota_runs integer;
   alter table sessions add column quota_containers integer;
   alter table sessions add column quota_memory_mb integer`,

  // When its container was started, on the clock of the host's boot.
  'alter table records add column started text',

  // Ended runs whose container is kept.
  'create index records_kept on records (kind, id) where live = 0 and request is not null',

  `alter table sessions add column owner text;
   alter table records add column owner text;
   alter table events add column owner text;
   create index sessions_by_owner on sessions (owner, session_id);
   create index records_by_owner on records (owner, kind, id);
   create index events_by_owner on events (owner, id)`,

  `create table session_tokens (id text primary key, sha256 text not null, session_id text not null,
     owner text not null, key_id text not null, scopes text not null, created_at text not null,
     expires_at text not null);
   create index session_tokens_by_session on session_tokens (session_id);
   create index session_tokens_by_end on session_tokens (expires_at)`,

  // Lists by status, and the sessions that are looked at again and again.
  `create index records_by_status on records (kind, status, id);
   create index sessions_limited on sessions (session_id)
     where expires_at is not null or idle_timeout_seconds is not null`,

  // Ended runs are answered as they are stored.
  `update records set record = json_insert(record, '$.oom_seen', json('false'), '$.queue_position', null)
     where kind = 'tool'
       and (json_type(record, '$.oom_seen') is null or json_type(record, '$.queue_position') is null)`,
]

/** Brings the schema up to date, all of it or nothing; a `ConfigError` where a newer version made the database. */
export function migrate(sqlite: DatabaseSync): void {
  if (versionOf(sqlite) === STEPS.length) return
  sqlite.exec('begin immediate')
  try {
    const done = stepsDone(sqlite)
    if (done > STEPS.length)
      throw new ConfigError(`the store was made by a newer version of this service: it is at step ${done}`)
    for (const step of STEPS.slice(done)) sqlite.exec(step)
    sqlite.exec(`PRAGMA user_version = ${STEPS.length}; commit`)
  } catch (error) {
    if (sqlite.isTransaction) sqlite.exec('rollback')
    throw error
  }
}

function stepsDone(sqlite: DatabaseSync): number {
  const former = sqlite.prepare("select 1 from sqlite_schema where name = 'kysely_migration'").get()
  if (former === undefined) return versionOf(sqlite)
  // Stores that were begun before 2026-11-22 have their steps in a table.
  const { steps } = sqlite.prepare('select count(*) as steps from kysely_migration').get() as { steps: number }
  sqlite.exec('drop table kysely_migration; drop table kysely_migration_lock')
  return steps
}

function versionOf(sqlite: DatabaseSync): number {
  return (sqlite.prepare('PRAGMA user_version').get() as { user_version: number }).user_version
}
