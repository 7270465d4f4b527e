import type { StatsSample } from '../engine/engine.ts'

/** Of a sample, in the order in which they are kept. NaN stands for null. */
const FIELDS = [
  'cpuNanoseconds',
  'memoryBytes',
  'memoryLimitBytes',
  'memoryPeakBytes',
  'networkRxBytes',
  'networkTxBytes',
  'diskReadBytes',
  'diskWriteBytes',
  'pids',
] as const satisfies readonly (keyof StatsSample)[]
const WIDTH = FIELDS.length + 1
const FIRST_CAPACITY = 8

/** The last samples of a container, oldest first: 80 bytes for each, and never more than `limit` of them. */
export class SampleRing {
  readonly limit: number
  #numbers: Float64Array
  #capacity: number
  /** Where the oldest is. */
  #start = 0
  #length = 0

  constructor(limit: number) {
    this.limit = limit
    this.#capacity = Math.min(FIRST_CAPACITY, limit)
    this.#numbers = new Float64Array(this.#capacity * WIDTH)
  }

  get length(): number {
    return this.#length
  }

  push(sample: StatsSample): void {
    if (this.#length === this.#capacity && this.#capacity < this.limit) this.#grow()
    const offset = this.#offset(this.#length)
    if (this.#length < this.#capacity) this.#length += 1
    else this.#start = (this.#start + 1) % this.#capacity
    this.#numbers[offset] = sample.at.getTime()
    FIELDS.forEach((field, index) => {
      this.#numbers[offset + 1 + index] = sample[field] ?? Number.NaN
    })
  }

  /** From 0, the oldest; from -1, the newest, backwards. Undefined where there is none. */
  at(index: number): StatsSample | undefined {
    const position = index < 0 ? this.#length + index : index
    if (position < 0 || position >= this.#length) return undefined
    const offset = this.#offset(position)
    const number = (column: number) => this.#numbers[offset + column] ?? Number.NaN
    const known = (column: number) => (Number.isNaN(number(column)) ? null : number(column))
    return {
      at: new Date(number(0)),
      cpuNanoseconds: number(1),
      memoryBytes: number(2),
      memoryLimitBytes: number(3),
      memoryPeakBytes: known(4),
      networkRxBytes: known(5),
      networkTxBytes: known(6),
      diskReadBytes: known(7),
      diskWriteBytes: known(8),
      pids: known(9),
    }
  }

  #offset(position: number): number {
    return ((this.#start + position) % this.#capacity) * WIDTH
  }

  /** It begins at its first place until it has grown to its limit. */
  #grow(): void {
    this.#capacity = Math.min(this.#capacity * 2, this.limit)
    const numbers = new Float64Array(this.#capacity * WIDTH)
    numbers.set(this.#numbers)
    this.#numbers = numbers
  }
}
