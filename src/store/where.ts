import type { Value } from './database.ts'

/** Conditions joined by `and`: their text is the store's own, what callers gave is bound. */
export class Where {
  readonly #conditions: string[] = []
  readonly values: Value[] = []

  /** Adds a condition, with a value for each `?` in it; nothing where one is undefined. */
  and(condition: string, ...values: (Value | undefined)[]): this {
    const given = values.filter((value) => value !== undefined)
    if (given.length < values.length) return this
    this.#conditions.push(condition)
    this.values.push(...given)
    return this
  }

  /** For the place behind a table's name. */
  get sql(): string {
    return this.#conditions.length === 0 ? '' : `where ${this.#conditions.join(' and ')}`
  }
}
