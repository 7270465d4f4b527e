import { collectYoung } from '../../garbage.ts'

const COLLECT_AFTER_BYTES = 1024 ** 2

/**
 * What is read of output, passed on and forgotten. V8 lets short-lived objects go when these fill
 * its young generation, for which it does not count what lies in buffers: a flood of output then counts as growth
 * of the old one, and all of that is collected ten times a second. So the young one is collected in time.
 */
export class ReadBuffers {
  readonly #collect: () => void
  #bytes = 0

  constructor(collect: () => void = collectYoung) {
    this.#collect = collect
  }

  /** So many bytes were read; most of those that were read before are used no more. */
  read(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes < COLLECT_AFTER_BYTES) return
    this.#bytes = 0
    this.#collect()
  }
}
