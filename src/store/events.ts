import { EventEmitter, once } from 'node:events'
import type { View } from '../domain/caller.ts'
import { timestamp } from '../domain/common.ts'
import type { Database } from './database.ts'
import { Where } from './where.ts'

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

type EventRow = Omit<StoredEvent, 'data'> & { data: string }

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
const COLUMNS = 'id, at, type, session_id, data'

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

  /** Writes one in a transaction of its caller's; `told` has to follow once that is through. */
  write({ type, session_id, owner, data }: NewEvent): void {
    this.#database.run(
      'insert into events (at, type, session_id, owner, data) values (?, ?, ?, ?, ?)',
      timestamp(),
      type,
      session_id,
      owner,
      JSON.stringify(data),
    )
  }

  /** Wakes those that follow. */
  told(): void {
    this.#changed.emit('change')
    this.#untilPrune -= 1
    if (this.#untilPrune > 0) return
    this.#untilPrune = PRUNE_EVERY
    try {
      this.#prune()
    } catch {
      // What is told is stored already: old events that stay for now are no reason to say otherwise.
    }
  }

  #prune(): void {
    this.#database.run('delete from events where id <= ?', this.#last() - this.#kept)
  }

  async append(event: NewEvent): Promise<void> {
    this.write(event)
    this.told()
  }

  /**
   * The first event of a store that takes the place of one that was lost. Ids count on from the time in
   * milliseconds, so that none of the former store's is used again, and who follows finds the gap.
   */
  async beginAnew(data: Record<string, unknown>): Promise<void> {
    this.#database.run(
      "insert into events (id, at, type, data) values (?, ?, 'store.begun_anew', ?)",
      Date.now(),
      timestamp(),
      JSON.stringify(data),
    )
    this.told()
  }

  /** Id of the newest; 0 where there was none. */
  async last(): Promise<number> {
    const id = this.#last()
    await this.#database.synced()
    return id
  }

  #last(): number {
    return this.#database.first<{ id: number }>('select id from events order by id desc limit 1')?.id ?? 0
  }

  /** Id of the oldest that is kept; 0 where there is none. */
  async first(): Promise<number> {
    return this.#database.first<{ id: number }>('select id from events order by id limit 1')?.id ?? 0
  }

  /** Those behind an id, and then each as it happens, until the signal aborts. */
  async *follow(after: number, filter: EventFilter, signal: AbortSignal): AsyncGenerator<StoredEvent> {
    for (let position = after; !signal.aborted; ) {
      // Listens before it looks: what is written between the two is not missed.
      const changed = once(this.#changed, 'change', { signal }).catch(() => {})
      const rows = this.#read(position, filter)
      // An id that a loss of power takes back is given again: whoever had been told it would miss what gets it.
      await this.#database.synced()
      for (const row of rows) {
        position = row.id
        yield row
        if (signal.aborted) return
      }
      if (rows.length < BATCH) await changed
    }
  }

  #read(after: number, { session_id, view }: EventFilter): StoredEvent[] {
    const behind = () => new Where().and('id > ?', after).and('session_id = ?', session_id)
    const parts =
      view === undefined
        ? [behind()]
        : [
            behind().and('owner = ?', view.owner).and('session_id = ?', view.session),
            // What concerns everyone.
            behind().and('owner is null and session_id is null'),
          ]
    // Of several parts, each is read by its own index, and the two are merged.
    const rows = this.#database.all<EventRow>(
      `${parts.map(({ sql }) => `select ${COLUMNS} from events ${sql}`).join(' union all ')} order by id limit ${BATCH}`,
      ...parts.flatMap(({ values }) => values),
    )
    return rows.map(({ data, ...row }) => ({ ...row, data: JSON.parse(data) as Record<string, unknown> }))
  }
}
