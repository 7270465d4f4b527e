/** Containers that are being made and started because somebody waits for them: what is done ahead of need waits for these. */
export class ColdStarts {
  readonly #listeners = new Set<() => void>()
  #underWay = 0

  get any(): boolean {
    return this.#underWay > 0
  }

  /** Begins one; call what it answers when it is over, which may be repeated. */
  begin(): () => void {
    this.#underWay += 1
    let isUnderWay = true
    return () => {
      if (!isUnderWay) return
      isUnderWay = false
      this.#underWay -= 1
      for (const listener of this.#listeners) listener()
    }
  }

  async during<T>(work: () => Promise<T>): Promise<T> {
    const over = this.begin()
    try {
      return await work()
    } finally {
      over()
    }
  }

  /** Calls back each time that one is over. */
  onEnd(listener: () => void): void {
    this.#listeners.add(listener)
  }
}
