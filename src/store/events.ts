import { EventEmitter, once } from 'node:events'
import type { View } from '../domain/caller.ts'
import { timestamp } from '../domain/common.ts'
import type { Database } from './database.ts'

/** Something that happened, as callers read it. */
export interface StoredEvent {
  /** Grows with time; never used twice. */
  id: number
  at: string
  /** What it happened to, and what: `tool.completed`. */
  type: string
  session_id: string | null
  data: Record<string, unknown>
}

export interface NewEvent extends Pick<StoredEvent, 'type' | 'session_id' | 'data'> {
  /** Whom it concerns; null for what concerns everyone. */
  owner: string | null
}

/** Which events a reader is told. */
export interface EventFilter {
  session_id?: string | undefined
  /** What the reader sees; all where absent. */
  view?: View | undefined
}

/** Kept of all that happened; older ones are told as a gap. */
const KEPT = 100_000
const PRUNE_EVERY = 1_000
const BATCH = 500

/** What happened, in order and over restarts, for whoever follows. */
export class Events {
  readonly #database: Database
  readonly #kept: number
  readonly #changed = new EventEmitter().setMaxListeners(0)
  #untilPrune = PRUNE_EVERY

  constructor(database: Database, kept = KEPT) {
    this.#database = database
    this.#kept = kept
  }

  /** Writes one within a caller's transaction; `told` has to follow it once that is through. */
  async write(database: Database, { type, session_id, owner, data }: NewEvent): Promise<void> {
    await database
      .insertInto('events')
      .values({ at: timestamp(), type, session_id, owner, data: JSON.stringify(data) })
      .execute()
  }

  /** Wakes those that follow. */
  async told(): Promise<void> {
    this.#changed.emit('change')
    this.#untilPrune -= 1
    if (this.#untilPrune > 0) return
    this.#untilPrune = PRUNE_EVERY
    // What is told is stored already: old events that stay for now are no reason to say otherwise.
    await this.#prune().catch(() => {})
  }

  async #prune(): Promise<void> {
    await this.#database
      .deleteFrom('events')
      .where('id', '<=', (await this.last()) - this.#kept)
      .execute()
  }

  async append(event: NewEvent): Promise<void> {
    await this.write(this.#database, event)
    await this.told()
  }

  /**
   * The first event of a store that takes the place of one that was lost. Ids count on from the time in
   * milliseconds, so that none of the former store's is used again, and who follows finds the gap.
   */
  async beginAnew(data: Record<string, unknown>): Promise<void> {
    await this.#database
      .insertInto('events')
      .values({
        id: Date.now(),
        at: timestamp(),
        type: 'store.begun_anew',
        session_id: null,
        owner: null,
        data: JSON.stringify(data),
      })
      .execute()
    await this.told()
  }

  /** Id of the newest; 0 where there was none. */
  async last(): Promise<number> {
    const row = await this.#database.selectFrom('events').select('id').orderBy('id', 'desc').limit(1).executeTakeFirst()
    return row?.id ?? 0
  }

  /** Id of the oldest that is kept; 0 where there is none. */
  async first(): Promise<number> {
    const row = await this.#database.selectFrom('events').select('id').orderBy('id').limit(1).executeTakeFirst()
    return row?.id ?? 0
  }

  /** Those behind an id, and then each as it happens, until the signal aborts. */
  async *follow(after: number, filter: EventFilter, signal: AbortSignal): AsyncGenerator<StoredEvent> {
    for (let position = after; !signal.aborted; ) {
      // Listens before it looks: what is written between the two is not missed.
      const changed = once(this.#changed, 'change', { signal }).catch(() => {})
      const rows = await this.#read(position, filter)
      for (const row of rows) {
        position = row.id
        yield row
        if (signal.aborted) return
      }
      if (rows.length < BATCH) await changed
    }
  }

  async #read(after: number, { session_id, view }: EventFilter): Promise<StoredEvent[]> {
    let query = this.#database.selectFrom('events').selectAll().where('id', '>', after)
    if (session_id !== undefined) query = query.where('session_id', '=', session_id)
    if (view !== undefined) {
      const { owner, session } = view
      query = query.where((eb) =>
        eb.or([
          eb.and([eb('owner', '=', owner), ...(session === undefined ? [] : [eb('session_id', '=', session)])]),
          eb.and([eb('owner', 'is', null), eb('session_id', 'is', null)]),
        ]),
      )
    }
    const rows = await query.orderBy('id').limit(BATCH).execute()
    return rows.map(({ data, owner: _, ...row }) => ({ ...row, data: JSON.parse(data) as Record<string, unknown> }))
  }
}
