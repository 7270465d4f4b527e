import { setTimeout as sleep } from 'node:timers/promises'
import { EngineError, isEngineFault } from '../../errors.ts'
import { Availability } from '../availability.ts'

const HEARTBEAT_MS = 5_000
const PROBE_PAUSE_MS = 500

/**
 * A circuit breaker for one engine. A call that could not reach the engine, or had no answer in time,
 * makes it suspect; only a probe decides. While the circuit is open calls fail at once, and probes go
 * on until one is answered. A heartbeat finds an engine that froze while nobody asked.
 */
export class Breaker {
  readonly availability = new Availability()
  readonly #probe: () => Promise<void>
  readonly #closed = new AbortController()
  #heartbeat: NodeJS.Timeout | undefined
  /** Aborts when the circuit opens. */
  #lost = new AbortController()
  #probing: Promise<void> | undefined

  /** `probe` asks the engine for a sign of life, with a deadline of its own, and not through `guard`. */
  constructor(probe: () => Promise<void>) {
    this.#probe = probe
  }

  /** Begins the heartbeat. */
  watch(): void {
    this.#heartbeat ??= setInterval(() => void this.suspect(), HEARTBEAT_MS).unref()
  }

  close(): void {
    clearInterval(this.#heartbeat)
    this.#closed.abort()
  }

  /** Makes a call of the engine, unless the circuit is open; `lost` aborts where it opens meanwhile. */
  async guard<T>(doing: string, call: (lost: AbortSignal) => Promise<T>): Promise<T> {
    this.availability.require(doing)
    try {
      return await call(this.#lost.signal)
    } catch (error) {
      if (isEngineFault(error, 'unavailable', 'deadline')) void this.suspect()
      throw error
    }
  }

  /** Asks for a sign of life, and goes on asking until there is one. */
  suspect(): Promise<void> {
    this.#probing ??= this.#untilAnswered().finally(() => {
      this.#probing = undefined
    })
    return this.#probing
  }

  #open(): void {
    if (!this.availability.isAvailable) return
    this.availability.set(false)
    const lost = this.#lost
    this.#lost = new AbortController()
    lost.abort(new EngineError('unavailable', 'The engine stopped answering while it was asked'))
  }

  async #untilAnswered(): Promise<void> {
    while (!this.#closed.signal.aborted) {
      try {
        await this.#probe()
        if (!this.#closed.signal.aborted) this.availability.set(true)
        return
      } catch {
        if (this.#closed.signal.aborted) return
        this.#open()
      }
      await sleep(PROBE_PAUSE_MS, undefined, { signal: this.#closed.signal, ref: false }).catch(() => {})
    }
  }
}
