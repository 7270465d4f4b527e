import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, it } from 'vitest'
import { ANYONE } from '../../../src/domain/caller.ts'
import { ConfigError } from '../../../src/errors.ts'
import { queuedRun } from '../../../src/managers/tool-manager.ts'
import { openDatabase } from '../../../src/store/database.ts'
import { Store } from '../../../src/store/store.ts'
import { temporaryFolder } from '../support/folders.ts'
import { toolRequest } from '../support/requests.ts'
import { rejection } from '../support/streams.ts'

describe('a database', () => {
  it('writes all of what belongs together, or nothing of it', async () => {
    const database = await openDatabase(':memory:')
    const insert = (id: string) => database.run('insert into instance values (?, ?)', id, 'now')
    expect(() =>
      database.atomically(() => {
        insert('a')
        insert('a')
      }),
    ).toThrow(/UNIQUE/)
    expect(database.all('select id from instance')).toEqual([])
    database.atomically(() => {
      insert('a')
      database.atomically(() => insert('b'))
    })
    expect(database.all<{ id: string }>('select id from instance').map(({ id }) => id)).toEqual(['a', 'b'])
    await database.close()
  })

  it('refuses one that a newer version made, and leaves it as it is', async () => {
    const path = join(await temporaryFolder(), 'store.sqlite')
    await (await openDatabase(path)).close()
    const newer = new DatabaseSync(path)
    newer.exec('PRAGMA user_version = 1000')
    expect(await rejection(openDatabase(path))).toBeInstanceOf(ConfigError)
    expect(newer.prepare('PRAGMA user_version').get()).toEqual({ user_version: 1000 })
    newer.close()
  })

  it('goes on from a schema whose steps were counted in a table', async () => {
    const path = join(await temporaryFolder(), 'store.sqlite')
    await (await openDatabase(path)).close()
    const former = new DatabaseSync(path)
    former.exec(`PRAGMA user_version = 0; drop index records_by_status; drop index sessions_limited;
      insert into instance values ('kept', 'then');
      insert into records (id, kind, session_id, name, status, live, nonce, record) values
        ('exec_1', 'tool', 's', 'n', 'completed', 0, '', '{"stdout":"\\"oom_seen\\""}'), ('relic_1', 'relic', 's', 'n', 'stopped', 0, '', '{}');
      create table kysely_migration (name text); create table kysely_migration_lock (id text);
      insert into kysely_migration values ${Array.from({ length: 10 }, (_, index) => `('${index}')`).join(', ')}`)
    former.close()
    const database = await openDatabase(path)
    expect(database.all<{ id: string }>('select id from instance').map(({ id }) => id)).toEqual(['kept'])
    // What is answered as it is stored has all that callers are told since.
    expect(
      database
        .all<{ record: string }>('select record from records order by id')
        .map(({ record }) => JSON.parse(record)),
    ).toEqual([{ stdout: '"oom_seen"', oom_seen: false, queue_position: null }, {}])
    const names = database.all<{ name: string }>("select name from sqlite_schema where name like '%migration%'")
    expect(names).toEqual([])
    await database.close()
    await (await openDatabase(path)).close()
  })
})

describe('a store', () => {
  it('has a run with its session, or neither', async () => {
    const store = await Store.open(await temporaryFolder())
    const id = 'exec_01900000-0000-7000-8000-000000000001'
    const request = toolRequest()
    const entry = {
      ...{ id, sessionId: 's', owner: null, name: 'n', status: 'queued', live: true, containerId: null },
      ...{ nonce: 'nonce', request, view: queuedRun(id, request, null) },
    }
    await store.accept(entry, ANYONE)
    expect(await rejection(store.accept({ ...entry, sessionId: 'other' }, ANYONE))).toBeInstanceOf(Error)
    expect(await store.sessions.get('s')).toBeDefined()
    expect(await store.sessions.get('other')).toBeUndefined()
    expect(await store.events.last()).toBe(2)
    await store.close()
  })
})
