import { EventEmitter, once } from 'node:events'
import { EngineError } from '../errors.ts'

const RETRY_AFTER_SECONDS = 2

/** Whether an engine answers, as its client last saw: managers read it and follow its changes. */
export class Availability {
  readonly #changed = new EventEmitter().setMaxListeners(0)
  #available = true
  #lostAt: Date | undefined
  #restoredAt: Date | undefined

  get isAvailable(): boolean {
    return this.#available
  }

  /** When it was lost last; undefined where it never was. */
  get lostAt(): Date | undefined {
    return this.#lostAt
  }

  /** When it was back last; undefined where it never was away, or is still. */
  get restoredAt(): Date | undefined {
    return this.#restoredAt
  }

  /** Throws `unavailable` at once where the engine does not answer: asking it would only take a deadline. */
  require(doing: string): void {
    if (this.#available) return
    throw new EngineError(
      'unavailable',
      `The engine has not answered since ${this.#lostAt?.toISOString()}: nothing was asked of it while ${doing}`,
      { retryAfterSeconds: RETRY_AFTER_SECONDS, hint: 'It is asked again every moment; try again when it is back.' },
    )
  }

  /** Resolves when the engine answers; rejects on abort. */
  async restored(signal: AbortSignal): Promise<void> {
    while (!this.#available) await once(this.#changed, 'change', { signal })
  }

  /** As `work`; rejects with `unavailable` where the engine is lost before it settles. */
  async during<T>(work: Promise<T>, doing: string): Promise<T> {
    const lost = Promise.withResolvers<never>()
    const off = this.onChange(() => {
      try {
        this.require(doing)
      } catch (error) {
        lost.reject(error)
      }
    })
    try {
      return await Promise.race([work, lost.promise])
    } finally {
      off()
    }
  }

  /** Calls back on each change, until the answered function is called. */
  onChange(listener: (available: boolean) => void): () => void {
    this.#changed.on('change', listener)
    return () => this.#changed.off('change', listener)
  }

  set(available: boolean): void {
    if (available === this.#available) return
    this.#available = available
    if (!available) this.#lostAt = new Date()
    this.#restoredAt = available ? new Date() : undefined
    this.#changed.emit('change', available)
  }
}
