import { messageOf } from '../errors.ts'
import type { Log } from './log.ts'

export interface RoundsOptions {
  /** For the log. */
  name: string
  everyMs: number
  work: (signal: AbortSignal) => Promise<unknown>
  log: Log
}

/** Work that is done again and again, never twice at once. What fails is logged, and tried in the next round. */
export class Rounds {
  readonly #options: RoundsOptions
  readonly #ending = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #isWorking = false

  constructor(options: RoundsOptions) {
    this.#options = options
  }

  begin(): void {
    this.#timer ??= setInterval(() => void this.#round(), this.#options.everyMs).unref()
  }

  /** Begins no other round; the signal of one that is under way aborts. */
  end(): void {
    clearInterval(this.#timer)
    this.#ending.abort()
  }

  async #round(): Promise<void> {
    if (this.#isWorking) return
    this.#isWorking = true
    const { name, log, work } = this.#options
    try {
      await work(this.#ending.signal)
    } catch (error) {
      if (!this.#ending.signal.aborted) {
        log.warn({ event: `${name}.failed`, error: messageOf(error) }, 'regular work failed, and is tried again')
      }
    } finally {
      this.#isWorking = false
    }
  }
}
