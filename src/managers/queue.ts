import { AppError } from '../errors.ts'

interface Waiting {
  priority: number
  grant: () => void
}

/**
 * Bounds how many tools run at once. Whose turn it is: sessions one after the other, and within a
 * session the highest priority first, then the oldest.
 */
export class RunQueue {
  readonly #concurrency: number
  readonly #limit: number
  /** In order of turn: a session that was served goes to the end. */
  readonly #sessions = new Map<string, Waiting[]>()
  #running = 0
  #waiting = 0
  /** Let in, and not in line yet. */
  #admitted = 0

  constructor(options: { concurrency: number; limit: number }) {
    this.#concurrency = options.concurrency
    this.#limit = options.limit
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waiting
  }

  /** Holds a place for one more until it acquires or withdraws; throws `queue_full` where none is left. */
  admit(): void {
    if (this.#running + this.#waiting + this.#admitted < this.#concurrency + this.#limit) {
      this.#admitted += 1
      return
    }
    throw new AppError('queue_full', `${this.#waiting} tool runs are waiting, and no more may`, {
      retryAfterSeconds: 5,
      hint: 'Try again later. CO_QUEUE_LIMIT sets how many may wait, CO_MAX_CONCURRENT_RUNS how many run at once.',
    })
  }

  /** Gives back a place that was never taken up. */
  withdraw(): void {
    this.#admitted = Math.max(0, this.#admitted - 1)
  }

  /** Resolves at this run's turn with the function that gives the place back; rejects on abort. */
  acquire(sessionId: string, priority: number, signal: AbortSignal): Promise<() => void> {
    this.withdraw()
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      if (this.#running < this.#concurrency) return resolve(this.#take())
      const abort = () => {
        this.#forget(sessionId, waiting)
        reject(signal.reason)
      }
      const waiting: Waiting = {
        priority,
        grant: () => {
          signal.removeEventListener('abort', abort)
          resolve(this.#take())
        },
      }
      signal.addEventListener('abort', abort, { once: true })
      const line = this.#sessions.get(sessionId) ?? []
      const place = line.findIndex((other) => other.priority < priority)
      line.splice(place === -1 ? line.length : place, 0, waiting)
      this.#sessions.set(sessionId, line)
      this.#waiting += 1
    })
  }

  #take(): () => void {
    this.#running += 1
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#running -= 1
      this.#next()
    }
  }

  #next(): void {
    const [first] = this.#sessions
    if (first === undefined || this.#running >= this.#concurrency) return
    const [sessionId, line] = first
    const waiting = line.shift()
    this.#sessions.delete(sessionId)
    if (line.length > 0) this.#sessions.set(sessionId, line)
    this.#waiting -= 1
    waiting?.grant()
  }

  #forget(sessionId: string, waiting: Waiting): void {
    const line = this.#sessions.get(sessionId)
    const place = line?.indexOf(waiting) ?? -1
    if (line === undefined || place === -1) return
    line.splice(place, 1)
    if (line.length === 0) this.#sessions.delete(sessionId)
    this.#waiting -= 1
  }
}
