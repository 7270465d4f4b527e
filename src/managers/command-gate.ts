import { AppError } from '../errors.ts'

/** Each holds a connection to the engine, and the beginning and end of its output in memory. */
const AT_ONCE = 64
const RETRY_AFTER_SECONDS = 2

/** Counts the commands that run in a worker, and holds new ones back while its container is replaced. */
export class CommandGate {
  #inside = 0
  #opening: PromiseWithResolvers<void> | undefined
  readonly #waiting = new Set<() => void>()
  #closing: Promise<unknown> = Promise.resolve()

  get busy(): boolean {
    return this.#inside > 0
  }

  /** Waits while the gate is closed; call the answer once the command has ended. 429 where too many run. */
  async enter(): Promise<() => void> {
    while (this.#opening !== undefined) await this.#opening.promise
    if (this.#inside >= AT_ONCE) {
      throw new AppError('quota_exceeded', `${AT_ONCE} commands run in this worker, as many as may at once`, {
        hint: 'Wait until one has ended, or cancel one.',
        retryAfterSeconds: RETRY_AFTER_SECONDS,
      })
    }
    this.#inside += 1
    let left = false
    return () => {
      if (left) return
      left = true
      this.#inside -= 1
      if (this.#inside === 0) for (const wake of [...this.#waiting]) wake()
    }
  }

  /**
   * Runs `work` with no command inside: waits so many milliseconds for those that run, then refuses
   * (`conflict`) and lets new ones in again. One at a time, in the order they came.
   */
  closed<T>(waitMs: number, work: () => Promise<T>): Promise<T> {
    const turn =
      this.#opening === undefined ? this.#close(waitMs, work) : this.#closing.then(() => this.#close(waitMs, work))
    this.#closing = turn.catch(() => {})
    return turn
  }

  async #close<T>(waitMs: number, work: () => Promise<T>): Promise<T> {
    if (this.#inside > 0 && waitMs <= 0) throw busy(this.#inside)
    const opening = Promise.withResolvers<void>()
    this.#opening = opening
    try {
      if (!(await this.emptied(waitMs))) throw busy(this.#inside)
      return await work()
    } finally {
      this.#opening = undefined
      opening.resolve()
    }
  }

  /** Waits until no command is inside; false where that takes longer. */
  async emptied(withinMs: number): Promise<boolean> {
    if (this.#inside === 0) return true
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const wake = () => resolve(true)
    this.#waiting.add(wake)
    const timer = setTimeout(() => resolve(false), withinMs)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(wake)
    }
  }
}

function busy(commands: number): AppError {
  return new AppError('conflict', `${commands} ${commands === 1 ? 'command runs' : 'commands run'} in the worker`, {
    hint: 'Ask again when they have ended, cancel them, or ask with when_busy "wait".',
  })
}
