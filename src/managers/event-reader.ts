import type { Events, StoredEvent } from '../store/events.ts'

/** Events that a reader asked for and that are kept no more. */
export interface EventGap {
  /** Of the last one that is missing. */
  id: number
  type: 'gap'
  events: number
}

export interface EventQuery {
  /** Id of the last event that the reader has; from now on where absent. */
  after: number | undefined
  session_id: string | undefined
  signal: AbortSignal
}

/** What happens, as callers follow it. */
export class EventReader {
  readonly #events: Events

  constructor(events: Events) {
    this.#events = events
  }

  async *follow({ after, session_id, signal }: EventQuery): AsyncGenerator<StoredEvent | EventGap> {
    const from = after ?? (await this.#events.last())
    const first = await this.#events.first()
    if (from > 0 && first > from + 1) yield { id: first - 1, type: 'gap', events: first - 1 - from }
    yield* this.#events.follow(from, session_id, signal)
  }
}
