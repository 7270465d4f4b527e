import { AppError } from '../errors.ts'

/** Keeps new containers out of a session while it is cleaned up, and out of a service that stops or cannot make them. */
export class SessionGate {
  /** Each throws while no container can be made. */
  readonly #conditions: readonly (() => void)[]
  readonly #closing = new Map<string, number>()
  #draining = false

  constructor(conditions: readonly (() => void)[] = []) {
    this.#conditions = conditions
  }

  /** Throws where no container may be made in this session, or, without one, at all. */
  admit(sessionId: string | undefined): void {
    this.requireOpen(sessionId)
    for (const condition of this.#conditions) condition()
  }

  /** Throws where nothing new may begin in this session, or, without one, at all. */
  requireOpen(sessionId: string | undefined): void {
    if (this.#draining) {
      throw new AppError('draining', 'The service is stopping and takes no new work', { retryAfterSeconds: 5 })
    }
    if (sessionId !== undefined && this.#closing.has(sessionId)) {
      throw new AppError('conflict', `Session "${sessionId}" is being cleaned up`, {
        hint: 'Try again when the cleanup has answered.',
      })
    }
  }

  /** Closes a session while `work` runs. */
  async closed<T>(sessionId: string, work: () => Promise<T>): Promise<T> {
    this.#closing.set(sessionId, (this.#closing.get(sessionId) ?? 0) + 1)
    try {
      return await work()
    } finally {
      const others = (this.#closing.get(sessionId) ?? 1) - 1
      if (others === 0) this.#closing.delete(sessionId)
      else this.#closing.set(sessionId, others)
    }
  }

  get draining(): boolean {
    return this.#draining
  }

  drain(): void {
    this.#draining = true
  }
}
