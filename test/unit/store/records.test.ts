import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Database, openDatabase } from '../../../src/store/database.ts'
import { Events } from '../../../src/store/events.ts'
import { type Entry, Records } from '../../../src/store/records.ts'
import { temporaryFolder } from '../support/folders.ts'
import { rejection } from '../support/streams.ts'

interface Request {
  command: string[]
}
interface View {
  id: string
  note: string
}

let database: Database
let records: Records<Request, View>

beforeEach(async () => {
  database = await openDatabase(':memory:')
  records = new Records(database, 'tool', new Events(database))
})
afterEach(() => database.close())

const idOf = (number: number) => `exec_${String(number).padStart(6, '0')}`

function entry(number: number, fields: Partial<Entry<Request, View>> = {}): Entry<Request, View> {
  const id = idOf(number)
  return {
    id,
    sessionId: 's1',
    owner: null,
    name: 'sum',
    status: 'running',
    live: true,
    containerId: null,
    nonce: `nonce-${number}`,
    request: { command: ['echo', `${number}`] },
    view: { id, note: 'größe "quoted"' },
    ...fields,
  }
}

const shown = async (filter: Parameters<typeof records.list>[0]) =>
  (await records.list(filter)).items.map(({ id }) => id)

describe('Records', () => {
  it('tell a disk that is full as that, also in the middle of a transaction, and go on when it has room', async () => {
    database.first('pragma max_page_count = 40')
    const large = entry(1, { request: { command: ['x'.repeat(400_000)] } })
    expect(await rejection(records.insert(large))).toMatchObject({ code: 'disk_low' })
    await records.insert(entry(2))
    expect((await records.live()).map(({ id }) => id)).toEqual([idOf(2)])
  })

  it('gives back what was put in, and undefined for what was not', async () => {
    const put = entry(1, { containerId: 'c0'.repeat(32) })
    await records.insert(put)
    expect(await records.get(put.id)).toEqual(put)
    expect(await records.get('exec_none')).toBeUndefined()
  })

  it('takes every field of an update', async () => {
    await records.insert(entry(1))
    const ended = entry(1, {
      status: 'completed',
      live: false,
      containerId: 'c1',
      nonce: 'another',
      request: null,
      view: { id: idOf(1), note: 'done' },
    })
    await records.update(ended)
    expect(await records.get(idOf(1))).toEqual(ended)
  })

  it('makes nothing of an update of what is not there', async () => {
    await records.update(entry(1))
    expect(await records.get(idOf(1))).toBeUndefined()
  })

  it('refuses a second record of one id', async () => {
    await records.insert(entry(1))
    expect(await rejection(records.insert(entry(1, { name: 'other' })))).toBeInstanceOf(Error)
    expect(await records.get(idOf(1))).toMatchObject({ name: 'sum' })
  })

  it('keeps kinds apart', async () => {
    const relics = new Records<Request, View>(database, 'relic', new Events(database))
    await records.insert(entry(1))
    await relics.insert(entry(2))
    expect(await relics.get(idOf(1))).toBeUndefined()
    await relics.update(entry(1, { status: 'failed' }))
    expect(await records.get(idOf(1))).toMatchObject({ status: 'running' })
    expect(await shown({})).toEqual([idOf(1)])
    expect(await records.live()).toHaveLength(1)
    expect(await records.count()).toBe(1)
  })

  it('keeps text as it is, whatever it looks like', async () => {
    const text = fc.string({ unit: 'binary', maxLength: 30 }).filter((value) => !value.includes('\0'))
    let number = 0
    await fc.assert(
      fc.asyncProperty(text, async (value) => {
        number += 1
        const put = entry(number, {
          name: value,
          request: { command: [value] },
          view: { id: idOf(number), note: value },
        })
        await records.insert(put)
        expect(await records.get(put.id)).toEqual(put)
        expect(await shown({ name: value, limit: 1 })).toEqual([put.id])
      }),
      { numRuns: 50 },
    )
  })
})

describe('what has ended, as it is stored', () => {
  it('is told once it may not change any more, and as it is now', async () => {
    await records.insert(entry(1))
    expect(await records.endedJson(idOf(1))).toBeUndefined()
    expect(await records.endedJson('exec_none')).toBeUndefined()
    await records.update(entry(1, { status: 'completed', live: false }))
    expect(JSON.parse((await records.endedJson(idOf(1))) ?? '')).toEqual(entry(1).view)
    await records.update(entry(1, { status: 'completed', live: false, view: { id: idOf(1), note: 'changed' } }))
    expect(await records.endedJson(idOf(1))).toContain('changed')
    await records.update(entry(1))
    expect(await records.endedJson(idOf(1))).toBeUndefined()
    await records.update(entry(1, { live: false }))
    expect(await records.endedJson(idOf(1))).toBeDefined()
    await records.remove(idOf(1))
    expect(await records.endedJson(idOf(1))).toBeUndefined()
  })

  it('is of its own kind', async () => {
    await records.insert(entry(1, { live: false }))
    const relics = new Records<Request, View>(database, 'relic', new Events(database))
    expect(await relics.endedJson(idOf(1))).toBeUndefined()
  })
})

describe('a list', () => {
  it('shows the newest first, in pages that miss and repeat nothing', async () => {
    for (let number = 0; number < 25; number++) await records.insert(entry(number))
    const pages: string[][] = []
    let cursor: string | null | undefined
    do {
      const page = await records.list({ limit: 10, ...(cursor ? { cursor } : {}) })
      pages.push(page.items.map(({ id }) => id))
      cursor = page.next_cursor
    } while (cursor !== null)
    expect(pages.map((page) => page.length)).toEqual([10, 10, 5])
    expect(pages.flat()).toEqual(Array.from({ length: 25 }, (_, index) => idOf(24 - index)))
  })

  it('has no next page behind a last one that is full', async () => {
    for (let number = 0; number < 4; number++) await records.insert(entry(number))
    const first = await records.list({ limit: 2 })
    expect(first.next_cursor).toBe(idOf(2))
    expect((await records.list({ limit: 2, cursor: idOf(2) })).next_cursor).toBeNull()
    expect(await records.list({ cursor: idOf(0) })).toEqual({ items: [], next_cursor: null })
  })

  it('goes on where it was, though records come between two pages', async () => {
    for (let number = 0; number < 4; number++) await records.insert(entry(number))
    const { next_cursor } = await records.list({ limit: 2 })
    await records.insert(entry(9))
    expect(await shown({ limit: 2, cursor: next_cursor ?? '' })).toEqual([idOf(1), idOf(0)])
  })

  it('has 100 on a page where no limit is given', async () => {
    for (let number = 0; number < 101; number++) await records.insert(entry(number))
    const page = await records.list({})
    expect(page.items).toHaveLength(100)
    expect(page.next_cursor).toBe(idOf(1))
  })

  it('is empty where there is nothing', async () => {
    expect(await records.list({})).toEqual({ items: [], next_cursor: null })
  })

  it('shows what every filter lets through', async () => {
    await records.insert(entry(1, { sessionId: 'a', status: 'running', name: 'sum' }))
    await records.insert(entry(2, { sessionId: 'a', status: 'completed', name: 'sum' }))
    await records.insert(entry(3, { sessionId: 'b', status: 'completed', name: 'grep' }))
    expect(await shown({ session_id: 'a' })).toEqual([idOf(2), idOf(1)])
    expect(await shown({ status: 'completed' })).toEqual([idOf(3), idOf(2)])
    expect(await shown({ exceptStatus: 'completed' })).toEqual([idOf(1)])
    expect(await shown({ name: 'grep' })).toEqual([idOf(3)])
    expect(await shown({ session_id: 'a', status: 'completed', name: 'sum' })).toEqual([idOf(2)])
    expect(await shown({ session_id: 'a', name: 'grep' })).toEqual([])
  })

  it.each(["' or 1=1 --", '%', '_', '*'])('takes the session "%s" for a name and no pattern', async (session_id) => {
    await records.insert(entry(1))
    expect(await shown({ session_id })).toEqual([])
  })

  it('pages within a filter', async () => {
    for (let number = 0; number < 6; number++) await records.insert(entry(number, { sessionId: `s${number % 2}` }))
    const page = await records.list({ session_id: 's1', limit: 2 })
    expect(page).toMatchObject({ items: [{ id: idOf(5) }, { id: idOf(3) }], next_cursor: idOf(3) })
    expect(await records.list({ session_id: 's1', limit: 2, cursor: idOf(3) })).toMatchObject({
      items: [{ id: idOf(1) }],
      next_cursor: null,
    })
  })
})

describe('live records', () => {
  it('are those that may still change, oldest first, but for those with a status', async () => {
    await records.insert(entry(3))
    await records.insert(entry(1, { sessionId: 'b' }))
    await records.insert(entry(2, { live: false, request: null }))
    expect((await records.live()).map(({ id }) => id)).toEqual([idOf(1), idOf(3)])
    expect((await records.live({ exceptStatus: 'none' })).map(({ id }) => id)).toEqual([idOf(1), idOf(3)])
    expect(await records.live({ exceptStatus: entry(1).status })).toEqual([])
    await records.update(entry(3, { live: false }))
    expect((await records.live()).map(({ id }) => id)).toEqual([idOf(1)])
  })
})

describe('a count', () => {
  it('counts what every filter lets through', async () => {
    await records.insert(entry(1, { sessionId: 'a' }))
    await records.insert(entry(2, { sessionId: 'a', live: false, status: 'completed' }))
    await records.insert(entry(3, { sessionId: 'b', status: 'queued' }))
    expect(await records.count()).toBe(3)
    expect(await records.count({ session_id: 'a' })).toBe(2)
    expect(await records.count({ live: true })).toBe(2)
    expect(await records.count({ live: false })).toBe(1)
    expect(await records.count({ status: 'queued', session_id: 'b', live: true })).toBe(1)
    expect(await records.count({ session_id: 'none' })).toBe(0)
  })
})

describe('the database', () => {
  it('has what was written when it is opened again', async () => {
    const path = join(await temporaryFolder(), 'store.sqlite')
    const first = await openDatabase(path)
    await new Records<Request, View>(first, 'tool', new Events(first)).insert(entry(1))
    await first.close()
    const second = await openDatabase(path)
    expect(await new Records<Request, View>(second, 'tool', new Events(second)).get(idOf(1))).toEqual(entry(1))
    await second.close()
  })
})
