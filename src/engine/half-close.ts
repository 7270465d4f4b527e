import type { Writable } from 'node:stream'

/** A proxy that does not end both directions at once waits for longer than this. */
const LEAST_MS = 50

/**
 * For how long a connection to an engine goes on in one direction once the other has ended. An engine's
 * goes on; a proxy before it may end both at once, or some time later, and with an attachment's stdin its
 * output. No engine tells: it is learned from attachments.
 */
export class HalfClose {
  #longestMs = 0

  /** Watches an attachment with this stdin. `teaches` where all that it gives is an answer to what its stdin told. */
  watch(stdin: Writable, { teaches }: { teaches: boolean }): HalfCloseWatch {
    return new HalfCloseWatch(stdin, {
      goesOnFor: () => this.#longestMs,
      shown: (milliseconds) => {
        if (teaches) this.#longestMs = Math.max(this.#longestMs, milliseconds, LEAST_MS)
      },
    })
  }
}

interface Known {
  goesOnFor: () => number
  shown: (milliseconds: number) => void
}

/** One attachment, since its stdin ended. */
export class HalfCloseWatch {
  readonly #known: Known
  #since: number | undefined

  constructor(stdin: Writable, known: Known) {
    this.#known = known
    const ended = () => {
      this.#since = performance.now()
    }
    if (stdin.writableFinished) ended()
    else stdin.once('finish', ended)
  }

  /** The attachment gives output: so far its connection goes on. */
  gave(): void {
    if (this.#since !== undefined) this.#known.shown(performance.now() - this.#since)
  }

  /** True where the output that ended at a time, by `performance.now()`, may have been ended by its connection. */
  isDoubtful(endedAt: number): boolean {
    return this.#since !== undefined && endedAt - this.#since > this.#known.goesOnFor()
  }
}
