import type { OutputChunk, OutputStream } from '../engine/engine.ts'

/** An engine's log lags behind by an unfinished line, which it holds back up to 16 KiB. */
const TAIL_BYTES = 64 * 1024
/** So many bytes in a row are taken for the same place. */
const SAMPLE_BYTES = 512

/** How far the output of a container is known: counts for a place in the engine's log, and the end to find it by. */
export class KnownOutput {
  readonly stdout = new KnownStream()
  readonly stderr = new KnownStream()

  add({ stream, bytes }: OutputChunk): void {
    this[stream].add(bytes)
  }

  /** Counts output that is not kept. */
  omit(stream: OutputStream, bytes: number): void {
    this[stream].omit(bytes)
  }
}

class KnownStream {
  #bytes = 0
  #tail: Buffer[] = []
  #tailBytes = 0

  get bytes(): number {
    return this.#bytes
  }

  add(bytes: Buffer): void {
    this.#bytes += bytes.length
    this.#tail.push(bytes)
    this.#tailBytes += bytes.length
    while (this.#tail[0] !== undefined && this.#tailBytes - this.#tail[0].length >= TAIL_BYTES) {
      this.#tailBytes -= this.#tail[0].length
      this.#tail.shift()
    }
  }

  omit(bytes: number): void {
    this.#bytes += bytes
    this.#tail = []
    this.#tailBytes = 0
  }

  /** Looks for the end of what is known in a log that is read from its beginning. */
  search(): PlaceSearch {
    return new PlaceSearch(this.#bytes, Buffer.concat(this.#tail))
  }
}

/** Finds in one stream of an engine's log the place up to which its output is known. */
class PlaceSearch {
  readonly #known: number
  readonly #tail: Buffer
  readonly #sample: Buffer
  /** The end of what was read, enough to find a sample that lies in two reads. */
  #window: Buffer = Buffer.alloc(0)
  #read = 0
  #isWhereCounted = false
  #lastSeen: number | undefined

  constructor(known: number, tail: Buffer) {
    this.#known = known
    this.#tail = tail
    this.#sample = tail.subarray(Math.max(0, tail.length - SAMPLE_BYTES))
  }

  add(bytes: Buffer): void {
    const window = Buffer.concat([this.#window, bytes])
    const start = this.#read - this.#window.length
    this.#read += bytes.length
    if (this.#sample.length > 0) {
      const { length } = this.#sample
      const last = window.lastIndexOf(this.#sample)
      if (last !== -1) this.#lastSeen = start + last + length
      const counted = this.#known - length - start
      if (counted >= 0 && window.subarray(counted, counted + length).equals(this.#sample)) this.#isWhereCounted = true
    }
    this.#window = window.subarray(Math.max(0, window.length - SAMPLE_BYTES + 1))
  }

  /**
   * Bytes of the stream to pass over: as many as are known, where the log still begins with the first
   * and says the same there. Where the engine has let go of its beginning, or the container is another
   * one, the last place where it says the same; and none where it says nothing of it.
   */
  get place(): number {
    if (this.#known === 0 || this.#isWhereCounted) return this.#known
    // Omitted to the very end: the count is all there is.
    if (this.#sample.length === 0) return this.#read >= this.#known ? this.#known : 0
    if (this.#isBehind()) return this.#known
    return this.#lastSeen ?? 0
  }

  /** The log ends before what is known does, and until there it is the same. */
  #isBehind(): boolean {
    const missing = this.#known - this.#read
    const end = this.#tail.length - missing
    if (missing <= 0 || end < 0) return false
    const shared = this.#tail.subarray(0, end)
    const length = Math.min(shared.length, this.#window.length)
    return this.#window.subarray(this.#window.length - length).equals(shared.subarray(shared.length - length))
  }
}
