import type { OutputChunk, OutputStream } from '../engine/engine.ts'

/** Kept of each stream for the answer: half from its beginning, half from its end. */
const CAPTURE_BYTES = 1024 * 1024

/** The beginning and the end of one stream, in bounded memory, and the count of all of it. */
export class BoundedText {
  readonly #half: number
  #headLimit: number
  readonly #head: Buffer[] = []
  #headBytes = 0
  /** The end, as a ring: made once the beginning is full. */
  #ring: Buffer | undefined
  #ringEnd = 0
  /** Ever written to the ring. */
  #ringBytes = 0
  #total = 0

  constructor(limit: number = CAPTURE_BYTES) {
    this.#half = Math.floor(limit / 2)
    this.#headLimit = this.#half
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
    const first = bytes.subarray(0, this.#headLimit - this.#headBytes)
    if (first.length > 0) {
      // A copy: a slice would keep the whole read buffer alive.
      this.#head.push(Buffer.from(first))
      this.#headBytes += first.length
    }
    const rest = bytes.subarray(first.length)
    if (rest.length > 0) this.#keepLast(rest.subarray(Math.max(0, rest.length - this.#half)))
  }

  /** Counts bytes that are not to be had any more; what comes next belongs to the end. */
  omit(bytes: number): void {
    this.#total += bytes
    this.#headLimit = this.#headBytes
    this.#ring = undefined
    this.#ringEnd = 0
    this.#ringBytes = 0
  }

  /** The kept text; where the middle is missing, a line says how many bytes were left out. */
  text(): string {
    const head = Buffer.concat(this.#head)
    const tail = this.#tail()
    if (!this.truncated) return Buffer.concat([head, tail]).toString('utf8')
    const omitted = this.#total - head.length - tail.length
    return `${wholeCharacters(head)}\n[... ${omitted} bytes omitted ...]\n${wholeCharacters(tail)}`
  }

  get #tailBytes(): number {
    return Math.min(this.#ringBytes, this.#half)
  }

  #keepLast(bytes: Buffer): void {
    this.#ring ??= Buffer.allocUnsafe(this.#half)
    this.#ringBytes += bytes.length
    const untilWrap = bytes.subarray(0, this.#half - this.#ringEnd)
    untilWrap.copy(this.#ring, this.#ringEnd)
    bytes.copy(this.#ring, 0, untilWrap.length)
    this.#ringEnd = (this.#ringEnd + bytes.length) % this.#half
  }

  #tail(): Buffer {
    if (this.#ring === undefined) return Buffer.alloc(0)
    if (this.#tailBytes < this.#half) return this.#ring.subarray(0, this.#tailBytes)
    return Buffer.concat([this.#ring.subarray(this.#ringEnd), this.#ring.subarray(0, this.#ringEnd)])
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

  /** Counts output that is not to be had any more. */
  omit(stream: OutputStream, bytes: number): void {
    this[stream].omit(bytes)
  }

  /** Bytes seen of a stream. */
  bytes(stream: OutputStream): number {
    return this[stream].bytes
  }
}
