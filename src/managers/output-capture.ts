import type { OutputChunk, OutputStream } from '../engine/engine.ts'

/** Kept of each stream for the answer: half from its beginning, half from its end. */
const CAPTURE_BYTES = 1024 * 1024

/** The beginning and the end of one stream, in bounded memory, and the count of all of it. */
export class BoundedText {
  readonly #half: number
  #head: Buffer[] = []
  #headBytes = 0
  #tail: Buffer[] = []
  #tailBytes = 0
  #total = 0

  constructor(limit: number = CAPTURE_BYTES) {
    this.#half = Math.floor(limit / 2)
  }

  /** All bytes that were written, kept or not. */
  get bytes(): number {
    return this.#total
  }

  get truncated(): boolean {
    return this.#total > this.#headBytes + this.#tailBytes
  }

  add(bytes: Buffer): void {
    this.#total += bytes.length
    const room = this.#half - this.#headBytes
    const first = bytes.subarray(0, room)
    if (first.length > 0) {
      // A copy: a slice would keep the whole read buffer alive.
      this.#head.push(Buffer.from(first))
      this.#headBytes += first.length
    }
    let rest = bytes.subarray(first.length)
    if (rest.length === 0) return
    if (rest.length > this.#half) rest = rest.subarray(rest.length - this.#half)
    this.#tail.push(Buffer.from(rest))
    this.#tailBytes += rest.length
    while (this.#tailBytes > this.#half) {
      const oldest = this.#tail[0]
      if (oldest === undefined) return
      const excess = this.#tailBytes - this.#half
      if (oldest.length <= excess) {
        this.#tail.shift()
        this.#tailBytes -= oldest.length
      } else {
        this.#tail[0] = oldest.subarray(excess)
        this.#tailBytes -= excess
      }
    }
  }

  /** The kept text; where the middle is missing, a line says how many bytes were left out. */
  text(): string {
    const tail = Buffer.concat(this.#tail)
    const head = Buffer.concat(this.#head)
    if (!this.truncated) return Buffer.concat([head, tail]).toString('utf8')
    const omitted = this.#total - this.#headBytes - this.#tailBytes
    return `${wholeCharacters(head)}\n[... ${omitted} bytes omitted ...]\n${wholeCharacters(tail)}`
  }
}

/** Text of a cut piece, without the halves of characters at its edges. */
function wholeCharacters(bytes: Buffer): string {
  return bytes.toString('utf8').replace(/^\uFFFD{1,3}|\uFFFD{1,3}$/g, '')
}

/** Both streams of a run. */
export class OutputCapture {
  readonly stdout = new BoundedText()
  readonly stderr = new BoundedText()

  add({ stream, bytes }: OutputChunk): void {
    this[stream].add(bytes)
  }

  /** Bytes seen of a stream. */
  bytes(stream: OutputStream): number {
    return this[stream].bytes
  }
}
