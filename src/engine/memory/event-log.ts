import { EventEmitter, on } from 'node:events'
import type { Labels } from '../../labels.ts'
import type { EngineEvent } from '../engine.ts'

/** What happens in the simulated world, for those that follow. */
export class EventLog {
  readonly #told = new EventEmitter().setMaxListeners(0)

  tell(action: string, container: { id: string; spec: { labels: Labels } }): void {
    const event: EngineEvent = { containerId: container.id, action, at: new Date() }
    this.#told.emit('event', event, container.spec.labels)
  }

  /** Listens from now on, not from the first read. */
  follow(wanted: (labels: Labels) => boolean, signal: AbortSignal): AsyncIterable<EngineEvent> {
    const told = on(this.#told, 'event', { signal }) as AsyncIterable<[EngineEvent, Labels]>
    return matching(told, wanted, signal)
  }
}

/** That something changed, for those that follow. */
export class ChangeLog {
  readonly #told = new EventEmitter().setMaxListeners(0)

  tell(): void {
    this.#told.emit('change')
  }

  /** Listens from now on, not from the first read. */
  follow(signal: AbortSignal): AsyncIterable<void> {
    return changes(on(this.#told, 'change', { signal }), signal)
  }
}

async function* changes(told: AsyncIterable<unknown>, signal: AbortSignal): AsyncGenerator<void> {
  try {
    for await (const _change of told) yield
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

async function* matching(
  told: AsyncIterable<[EngineEvent, Labels]>,
  wanted: (labels: Labels) => boolean,
  signal: AbortSignal,
): AsyncGenerator<EngineEvent> {
  try {
    for await (const [event, carried] of told) if (wanted(carried)) yield event
  } catch (error) {
    if (!signal.aborted) throw error
  }
}
