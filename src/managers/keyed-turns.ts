import { Turns } from './turns.ts'

/** Work of one key at a time, in the order it came; that of other keys goes on beside it. */
export class KeyedTurns {
  readonly #turns = new Map<string, Turns>()

  take<T>(key: string, work: () => Promise<T>): Promise<T> {
    const turns = this.#turns.get(key) ?? new Turns()
    this.#turns.set(key, turns)
    return turns.take(work).finally(() => {
      if (turns.idle) this.#turns.delete(key)
    })
  }
}
