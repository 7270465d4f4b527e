import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { EventReader } from '../../../src/managers/event-reader.ts'
import { type Database, openDatabase } from '../../../src/store/database.ts'
import { Events } from '../../../src/store/events.ts'

let database: Database
let events: Events

beforeEach(async () => {
  database = await openDatabase(':memory:')
  events = new Events(database, 2_000)
})
afterEach(() => database.close())

const append = (type: string, session_id: string | null = null) =>
  events.append({ type, session_id, owner: null, data: { type } })

/** The first so many that a follower is told. */
async function take(count: number, after: number, session_id?: string): Promise<{ id: number; type: string }[]> {
  const abort = new AbortController()
  const told: { id: number; type: string }[] = []
  for await (const { id, type } of new EventReader(events).follow({ after, session_id, signal: abort.signal })) {
    told.push({ id, type })
    if (told.length === count) abort.abort()
  }
  return told
}

describe('Events', () => {
  it('are told in order, those that were and each that comes, to every follower', async () => {
    await append('one')
    const followers = [take(3, 0), take(3, 0)]
    await append('two')
    await append('three')
    for (const follower of followers)
      expect(await follower).toEqual([
        { id: 1, type: 'one' },
        { id: 2, type: 'two' },
        { id: 3, type: 'three' },
      ])
    expect(await take(1, 2)).toEqual([{ id: 3, type: 'three' }])
  })

  it('are those of a session where one is asked for', async () => {
    await append('a', 's1')
    await append('b', 's2')
    await append('c', 's1')
    expect((await take(2, 0, 's1')).map(({ type }) => type)).toEqual(['a', 'c'])
  })

  it('miss nothing under a burst, past the size of a batch', async () => {
    const following = take(1_500, 0)
    await Promise.all(Array.from({ length: 1_500 }, (_, index) => append(`event ${index}`)))
    const ids = (await following).map(({ id }) => id)
    expect(ids).toEqual(Array.from({ length: 1_500 }, (_, index) => index + 1))
  })

  it('are kept up to a number; who asks for older ones is told how many are missing', async () => {
    for (let index = 0; index < 5_000; index++) await append('x')
    expect(await events.last()).toBe(5_000)
    expect(await events.first()).toBe(3_001)
    const [gap, next] = await take(2, 10)
    expect([gap, next]).toEqual([
      { id: 3_000, type: 'gap' },
      { id: 3_001, type: 'x' },
    ])
    expect((await take(1, 4_999)).map(({ id }) => id)).toEqual([5_000])
  })
})
