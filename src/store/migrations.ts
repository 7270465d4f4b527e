import { type Kysely, sql } from 'kysely'
import { type Migration, Migrator } from 'kysely/migration'

type AnyDatabase = Kysely<unknown>

/** In order, by name. A migration that has been released never changes: add another. */
const MIGRATIONS: Record<string, Migration> = {
  '0001_records': {
    async up(db: AnyDatabase) {
      await db.schema
        .createTable('instance')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('created_at', 'text', (column) => column.notNull())
        .execute()
      await db.schema
        .createTable('sessions')
        .addColumn('session_id', 'text', (column) => column.primaryKey())
        .addColumn('created_at', 'text', (column) => column.notNull())
        .addColumn('last_activity_at', 'text', (column) => column.notNull())
        .execute()
      await db.schema
        .createTable('records')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('kind', 'text', (column) => column.notNull())
        .addColumn('session_id', 'text', (column) => column.notNull())
        .addColumn('name', 'text', (column) => column.notNull())
        .addColumn('status', 'text', (column) => column.notNull())
        .addColumn('live', 'integer', (column) => column.notNull())
        .addColumn('container_id', 'text')
        .addColumn('nonce', 'text', (column) => column.notNull())
        .addColumn('request', 'text')
        .addColumn('record', 'text', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('records_by_kind').on('records').columns(['kind', 'id']).execute()
      await db.schema.createIndex('records_by_session').on('records').columns(['session_id', 'kind', 'id']).execute()
      await sql`create index records_live on records (kind, id) where live = 1`.execute(db)
      await sql`create index records_by_container on records (container_id) where container_id is not null`.execute(db)
    },
  },
  '0002_records_by_name': {
    async up(db: AnyDatabase) {
      await db.schema.createIndex('records_by_name').on('records').columns(['kind', 'name', 'id']).execute()
    },
  },
  '0003_idempotency_keys': {
    async up(db: AnyDatabase) {
      await db.schema
        .createTable('idempotency_keys')
        .addColumn('key', 'text', (column) => column.primaryKey())
        .addColumn('digest', 'text', (column) => column.notNull())
        .addColumn('resource', 'text', (column) => column.notNull())
        .addColumn('created_at', 'text', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('idempotency_keys_by_age').on('idempotency_keys').columns(['created_at']).execute()
    },
  },
  '0004_session_lifetimes': {
    async up(db: AnyDatabase) {
      await db.schema.alterTable('sessions').addColumn('ttl_seconds', 'real').execute()
      await db.schema.alterTable('sessions').addColumn('idle_timeout_seconds', 'real').execute()
      await db.schema.alterTable('sessions').addColumn('expires_at', 'text').execute()
    },
  },
  '0005_events': {
    async up(db: AnyDatabase) {
      await db.schema
        .createTable('events')
        .addColumn('id', 'integer', (column) => column.primaryKey().autoIncrement())
        .addColumn('at', 'text', (column) => column.notNull())
        .addColumn('type', 'text', (column) => column.notNull())
        .addColumn('session_id', 'text')
        .addColumn('data', 'text', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('events_by_session').on('events').columns(['session_id', 'id']).execute()
    },
  },
  '0006_session_quotas': {
    async up(db: AnyDatabase) {
      for (const column of ['quota_runs', 'quota_containers', 'quota_memory_mb']) {
        await db.schema.alterTable('sessions').addColumn(column, 'integer').execute()
      }
    },
  },
  '0007_start_on_the_boot_clock': {
    async up(db: AnyDatabase) {
      await db.schema.alterTable('records').addColumn('started', 'text').execute()
    },
  },
  '0008_kept_containers': {
    async up(db: AnyDatabase) {
      await sql`create index records_kept on records (kind, id) where live = 0 and request is not null`.execute(db)
    },
  },
  '0009_owners': {
    async up(db: AnyDatabase) {
      for (const table of ['sessions', 'records', 'events']) {
        await db.schema.alterTable(table).addColumn('owner', 'text').execute()
        await db.schema
          .createIndex(`${table}_by_owner`)
          .on(table)
          .columns(
            table === 'records' ? ['owner', 'kind', 'id'] : ['owner', table === 'sessions' ? 'session_id' : 'id'],
          )
          .execute()
      }
    },
  },
  '0010_session_tokens': {
    async up(db: AnyDatabase) {
      await db.schema
        .createTable('session_tokens')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('sha256', 'text', (column) => column.notNull())
        .addColumn('session_id', 'text', (column) => column.notNull())
        .addColumn('owner', 'text', (column) => column.notNull())
        .addColumn('key_id', 'text', (column) => column.notNull())
        .addColumn('scopes', 'text', (column) => column.notNull())
        .addColumn('created_at', 'text', (column) => column.notNull())
        .addColumn('expires_at', 'text', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('session_tokens_by_session').on('session_tokens').columns(['session_id']).execute()
      await db.schema.createIndex('session_tokens_by_end').on('session_tokens').columns(['expires_at']).execute()
    },
  },
}

/** Brings the schema up to date; throws where a migration fails. */
export async function migrate<T>(database: Kysely<T>): Promise<void> {
  const migrator = new Migrator({ db: database, provider: { getMigrations: async () => MIGRATIONS } })
  const { error } = await migrator.migrateToLatest()
  if (error !== undefined) throw error
}
