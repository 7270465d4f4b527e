import { open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { beforeEach, describe, expect, it } from 'vitest'
import { ANYONE } from '../../../src/domain/caller.ts'
import { EventReader } from '../../../src/managers/event-reader.ts'
import { CorruptStore } from '../../../src/store/faults.ts'
import { Store } from '../../../src/store/store.ts'
import { spoilWhileUsed } from '../../fixtures/spoiled-store.ts'
import { temporaryFolder } from '../support/folders.ts'
import { rejection } from '../support/streams.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const PAGE = 4096

let folder: string
let path: string
let instance: string

beforeEach(async () => {
  folder = await temporaryFolder()
  path = join(folder, 'store.sqlite')
  const store = await Store.open(folder)
  instance = store.instance
  for (let index = 0; index < 500; index++) await store.sessions.touch(`session-${index}`, ANYONE)
  await store.close()
})

async function garbageAt(position: number, bytes: number): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(Buffer.alloc(bytes, 0x5a), 0, bytes, position)
  await file.close()
}

const filesSetAside = async () => (await readdir(folder)).filter((name) => name.startsWith('store.corrupt-'))

describe('Store.open with a database that is corrupt', () => {
  it.each([
    ['is no database', () => writeFile(path, 'this is no database, but a text of some length, twice as long')],
    ['has a broken header', () => garbageAt(0, 32)],
    ['has garbage in its middle', () => garbageAt(4 * PAGE, 3 * PAGE)],
    ['is all zeros', async () => writeFile(path, Buffer.alloc((await stat(path)).size))],
    ['was cut off in its first page', () => truncate(path, 700)],
    ['was cut off in its middle', () => truncate(path, 6 * PAGE + 100)],
  ])('sets one aside that %s, whole, and begins a new one for the same instance', async (_how, spoil) => {
    await spoil()
    const spoiled = await readFile(path)
    const store = await Store.open(folder)
    expect(store.setAside).toMatch(/\/store\.corrupt-\d{4}-\d\d-\d\dT[\d-]+\.\d{3}Z\.sqlite$/)
    expect(await filesSetAside()).toContain(basename(store.setAside ?? ''))
    expect((await readFile(store.setAside ?? '')).equals(spoiled)).toBe(true)
    expect(store.instance).toBe(instance)
    expect(store.needsRebuild).toBe(true)
    expect(await store.sessions.count()).toBe(0)
    await store.sessions.touch('new', ANYONE)
    await store.close()
  })

  it('takes the write-ahead log along, under the name that SQLite looks for', async () => {
    await writeFile(`${path}-wal`, 'log')
    await garbageAt(0, 32)
    const store = await Store.open(folder)
    expect(await filesSetAside()).toContain(`${basename(store.setAside ?? '')}-wal`)
    await store.close()
  })

  it('sets one aside whose pages hold together, but whose live records cannot be read', async () => {
    const database = new DatabaseSync(path)
    database.exec(
      `insert into records (id, kind, session_id, name, status, live, nonce, record)
       values ('exec_1', 'tool', 's', 'n', 'running', 1, 'nonce', '{"cut')`,
    )
    database.close()
    const store = await Store.open(folder)
    expect(store.setAside).toBeDefined()
    await store.close()
  })

  it('leaves one alone that is sound', async () => {
    const store = await Store.open(folder)
    expect(store).toMatchObject({ setAside: undefined, needsRebuild: false, instance })
    expect(await store.sessions.count()).toBe(500)
    expect(await filesSetAside()).toEqual([])
    await store.close()
  })

  it('goes on to need a rebuild over restarts, until it is done', async () => {
    await garbageAt(0, 32)
    const first = await Store.open(folder)
    await first.close()
    const second = await Store.open(folder)
    expect(second).toMatchObject({ setAside: undefined, needsRebuild: true, instance })
    await second.rebuilt()
    await second.rebuilt()
    await second.close()
    const third = await Store.open(folder)
    expect(third).toMatchObject({ setAside: undefined, needsRebuild: false, instance })
    await third.close()
  })

  it('takes one that is missing or empty for one that is lost', async () => {
    await rm(path)
    const missing = await Store.open(folder)
    expect(missing).toMatchObject({ setAside: undefined, needsRebuild: true, instance })
    await missing.close()
    await truncate(path, 0)
    const empty = await Store.open(folder)
    expect(empty).toMatchObject({ setAside: undefined, needsRebuild: true, instance })
    await empty.close()
  })
})

describe('the file with the instance', () => {
  const file = () => readFile(join(folder, 'instance'), 'utf8')

  it('is written for a store that was made before there was one', async () => {
    await rm(join(folder, 'instance'))
    const store = await Store.open(folder)
    expect(store).toMatchObject({ needsRebuild: false, instance })
    expect(await file()).toBe(`${instance}\n`)
    await store.close()
  })

  it('gives way to what a sound store says', async () => {
    await writeFile(join(folder, 'instance'), 'nonsense')
    const store = await Store.open(folder)
    expect(store).toMatchObject({ needsRebuild: false, instance })
    expect(await file()).toBe(`${instance}\n`)
    await store.close()
  })

  it('is made anew, with another instance, where it went with the store', async () => {
    await rm(join(folder, 'instance'))
    await garbageAt(0, 32)
    const store = await Store.open(folder)
    expect(store.setAside).toBeDefined()
    expect(store.needsRebuild).toBe(false)
    expect(store.instance).toMatch(UUID)
    expect(store.instance).not.toBe(instance)
    expect(await file()).toBe(`${store.instance}\n`)
    await store.close()
  })
})

describe('a database that becomes corrupt while it is used', () => {
  it('is told as a store that is unavailable, and to its owner once', async () => {
    const told: CorruptStore[] = []
    const store = await Store.open(folder, { onCorrupt: (error) => told.push(error) })
    spoilWhileUsed(path)
    for (let attempt = 0; attempt < 2; attempt++) {
      expect(await rejection(store.sessions.count())).toMatchObject({
        code: 'store_unavailable',
        details: { retryAfterSeconds: expect.any(Number) },
      })
    }
    expect(told).toEqual([expect.any(CorruptStore)])
    await store.close()
    const next = await Store.open(folder)
    expect(next.setAside).toBeDefined()
    expect(next.instance).toBe(instance)
    await next.close()
  })
})

describe('events', () => {
  it('have ids behind all that the former store gave, and tell who follows of the gap', async () => {
    const before = await Store.open(folder)
    const last = await before.events.last()
    await before.close()
    await garbageAt(0, 32)
    const store = await Store.open(folder)
    await store.sessions.touch('new', ANYONE)
    const stop = new AbortController()
    const seen = []
    for await (const event of new EventReader(store.events).follow({
      after: last,
      session_id: undefined,
      signal: stop.signal,
    })) {
      seen.push(event)
      if (event.type === 'session.created') stop.abort()
    }
    expect(seen).toMatchObject([
      { type: 'gap', events: null },
      { type: 'store.begun_anew', data: { set_aside: basename(store.setAside ?? '') } },
      { type: 'session.created', session_id: 'new' },
    ])
    expect(seen[2]?.id).toBeGreaterThan(last)
    await store.close()
  })
})
