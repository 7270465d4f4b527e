/** Numbers that look random and come again with their seed (mulberry32). */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** From 0 up to 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number from `low` to `high`. */
  between(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1))
  }
}

/** Of `FAULTS_SEED` or `SECURITY_SEED`, by the suite, or new. Printed by it, so that a failure can be replayed. */
export function seed(): number {
  const given = process.env[`${(process.env['SUITE'] ?? 'tests').toUpperCase()}_SEED`]
  return given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given)
}
