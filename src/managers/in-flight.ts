/** Shares work by key: whoever asks while it is under way gets the same promise, and nobody its result later. */
export class InFlight<T> {
  readonly #running = new Map<string, Promise<T>>()

  share(key: string, start: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key)
    if (running !== undefined) return running
    const promise = start().finally(() => this.#running.delete(key))
    this.#running.set(key, promise)
    return promise
  }
}
