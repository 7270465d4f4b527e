import { AppError } from '../errors.ts'

/** A run that waits for its turn: all that is in memory of it. */
export interface WaitingRun {
  readonly id: string
  readonly sessionId: string
  readonly priority: number
}

/** Gives a place back; harmless when repeated. */
export type Release = () => void

/** A place in line that is held for one run until it enters or withdraws. */
export interface Admission<Run extends WaitingRun> {
  /** As `RunQueue.enter`. */
  enter(run: Run): Release | undefined
  /** Gives the place in line back; harmless after `enter`. */
  withdraw(): void
}

export interface RunQueueOptions<Run> {
  /** So many run at once. */
  concurrency: number
  /** So many may wait beside them. */
  limit: number
  /** Called at the turn of a run that had to wait. */
  onTurn: (run: Run, release: Release) => void
}

/** Why nobody gets a turn for now. */
export type Suspension = 'draining' | 'engine' | 'disk'

/**
 * Bounds how many tools run at once. Whose turn it is: sessions one after the other, and within a
 * session the highest priority first, then the oldest.
 */
export class RunQueue<Run extends WaitingRun = WaitingRun> {
  readonly #options: RunQueueOptions<Run>
  /** In order of turn: a session that was served goes to the end. */
  readonly #sessions = new Map<string, Run[]>()
  readonly #suspensions = new Set<Suspension>()
  #running = 0
  #waiting = 0
  /** Let in, and not in line yet. */
  #admitted = 0

  constructor(options: RunQueueOptions<Run>) {
    this.#options = options
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waiting
  }

  /** Holds a place for one more; throws `queue_full` where none is left. */
  admit(): Admission<Run> {
    const { concurrency, limit } = this.#options
    if (this.#running + this.#waiting + this.#admitted >= concurrency + limit) {
      throw new AppError('queue_full', `${this.#waiting} tool runs are waiting, and no more may`, {
        retryAfterSeconds: 5,
        hint: 'Try again later. CO_QUEUE_LIMIT sets how many may wait, CO_MAX_CONCURRENT_RUNS how many run at once.',
      })
    }
    this.#admitted += 1
    let held = true
    const withdraw = () => {
      if (held) this.#admitted -= 1
      held = false
    }
    return {
      withdraw,
      enter: (run) => {
        withdraw()
        return this.enter(run)
      },
    }
  }

  /** Answers how to give its place back where the run may begin at once; otherwise it waits for its turn. */
  enter(run: Run): Release | undefined {
    if (this.#isFree && this.#waiting === 0) return this.#take()
    const line = this.#sessions.get(run.sessionId) ?? []
    const place = line.findIndex((other) => other.priority < run.priority)
    line.splice(place === -1 ? line.length : place, 0, run)
    this.#sessions.set(run.sessionId, line)
    this.#waiting += 1
    this.#serve()
    return undefined
  }

  /** Takes a place for what runs already, also where none is left. */
  occupy(): Release {
    return this.#take()
  }

  /** Takes a run out of line; false where it is not in it, or not any more. */
  remove(run: Run): boolean {
    const line = this.#sessions.get(run.sessionId)
    const place = line?.indexOf(run) ?? -1
    if (line === undefined || place === -1) return false
    line.splice(place, 1)
    if (line.length === 0) this.#sessions.delete(run.sessionId)
    this.#waiting -= 1
    return true
  }

  /** How many turns until that of a run which waits, its own among them, if nobody else comes; undefined where it does not wait. */
  position(run: Run): number | undefined {
    const place = this.#sessions.get(run.sessionId)?.indexOf(run) ?? -1
    if (place === -1) return undefined
    let turns = place + 1
    let isAhead = true
    for (const [sessionId, line] of this.#sessions) {
      if (sessionId === run.sessionId) isAhead = false
      else turns += Math.min(line.length, isAhead ? place + 1 : place)
    }
    return turns
  }

  /** Nobody gets a turn until every reason that was given is lifted. */
  suspend(reason: Suspension): void {
    this.#suspensions.add(reason)
  }

  resume(reason: Suspension): void {
    this.#suspensions.delete(reason)
    this.#serve()
  }

  get #isFree(): boolean {
    return this.#running < this.#options.concurrency && this.#suspensions.size === 0
  }

  #take(): Release {
    this.#running += 1
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#running -= 1
      this.#serve()
    }
  }

  #serve(): void {
    while (this.#isFree) {
      const [first] = this.#sessions
      if (first === undefined) return
      const [sessionId, line] = first
      const run = line.shift()
      this.#sessions.delete(sessionId)
      if (line.length > 0) this.#sessions.set(sessionId, line)
      if (run === undefined) continue
      this.#waiting -= 1
      this.#options.onTurn(run, this.#take())
    }
  }
}
