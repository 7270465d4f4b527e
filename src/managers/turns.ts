/** Work one at a time, in the order it came. Work that fails holds up nobody, and only its own caller is told. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve()
  #waiting = 0

  take<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting += 1
    const turn = this.#last.then(work).finally(() => {
      this.#waiting -= 1
    })
    this.#last = turn.catch(() => {})
    return turn
  }

  /** True while nothing runs and nothing waits. */
  get idle(): boolean {
    return this.#waiting === 0
  }
}
