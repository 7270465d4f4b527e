import type { EventFilter, Events, StoredEvent } from '../store/events.ts'

/** Events that a reader asked for and that are kept no more. */
export interface EventGap {
  /** Of the last one that is missing. */
  id: number
  type: 'gap'
  /** Null where the store was lost in between, and nobody knows. */
  events: number | null
}

export interface EventQuery extends EventFilter {
  /** Id of the last event that the reader has; from now on where absent. */
  after: number | undefined
  signal: AbortSignal
}

/** More than any store keeps: the ids of one that was begun anew are further from those of the former. */
const JUMP = 1_000_000_000

/** What happens, as callers follow it. */
export class EventReader {
  readonly #events: Events

  constructor(events: Events) {
    this.#events = events
  }

  async *follow({ after, signal, ...filter }: EventQuery): AsyncGenerator<StoredEvent | EventGap> {
    const from = after ?? (await this.#events.last())
    const first = await this.#events.first()
    const missing = first - 1 - from
    if (from > 0 && missing > 0) yield { id: first - 1, type: 'gap', events: missing < JUMP ? missing : null }
    yield* this.#events.follow(from, filter, signal)
  }
}
