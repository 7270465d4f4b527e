import type { Writable } from 'node:stream'

/** What was on its way when stdin ended has come by then. */
const ON_ITS_WAY_MS = 5

/**
 * Whether a connection to an engine goes on in one direction once the other has ended. The engine's do; a
 * proxy before it may end both, and with an attachment's stdin its output. No engine tells: it is learned
 * from attachments.
 */
export class HalfClose {
  #isKept = false

  /** For an attachment with this stdin; undefined once an earlier one has shown that connections go on. */
  trial(stdin: Writable): HalfCloseTrial | undefined {
    if (this.#isKept) return undefined
    return new HalfCloseTrial(stdin, () => {
      this.#isKept = true
    })
  }
}

/** One attachment, whose output is compared with the engine's log. */
export class HalfCloseTrial {
  readonly #shown: () => void
  #stdinEndedAt: number | undefined
  /** Of output that came after its stdin had ended. */
  #bytes = 0
  #isSpoilt = false

  /** `shown` is called where it turns out that connections go on. */
  constructor(stdin: Writable, shown: () => void) {
    this.#shown = shown
    const ended = () => {
      this.#stdinEndedAt = performance.now()
    }
    if (stdin.writableFinished) ended()
    else stdin.once('finish', ended)
  }

  /** True where its stdin has ended: its output may have ended with it, before its process. */
  get isUnsure(): boolean {
    return this.#stdinEndedAt !== undefined
  }

  /** The attachment gave so many bytes. */
  gave(bytes: number): void {
    const isAfter = this.#stdinEndedAt !== undefined && performance.now() > this.#stdinEndedAt + ON_ITS_WAY_MS
    if (isAfter) this.#bytes += bytes
    // What came before shows nothing: there may have been no more than that.
    else this.#isSpoilt = true
  }

  /** The engine's log has output that the attachment did not give. */
  missed(): void {
    this.#isSpoilt = true
  }

  /** The log was read to its end. */
  conclude(): void {
    if (this.#bytes > 0 && !this.#isSpoilt) this.#shown()
  }
}
