/**
 * Since when things have been seen, by a clock that nobody can set: how old they are by the engine's
 * stamps says nothing when a clock was.
 */
export class Sightings {
  readonly #firstSeen = new Map<string, number>()

  /** Notes all that is there now, and forgets what is not. */
  note(keys: Iterable<string>): void {
    const present = new Set(keys)
    for (const key of this.#firstSeen.keys()) if (!present.has(key)) this.#firstSeen.delete(key)
    for (const key of present) if (!this.#firstSeen.has(key)) this.#firstSeen.set(key, performance.now())
  }

  /** True for what has been there for so many milliseconds. */
  isOld(key: string, olderThanMs: number): boolean {
    const first = this.#firstSeen.get(key)
    return olderThanMs === 0 || (first !== undefined && performance.now() - first >= olderThanMs)
  }
}
