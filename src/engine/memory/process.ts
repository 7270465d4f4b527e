import { EventEmitter, once } from 'node:events'
import type { OutputChunk, OutputStream } from '../engine.ts'

/** Output of a process: kept, and followed by any number of readers. */
export class OutputLog {
  readonly #chunks: OutputChunk[] = []
  readonly #changed = new EventEmitter().setMaxListeners(0)
  #ended = false

  get length(): number {
    return this.#chunks.length
  }

  write(stream: OutputStream, bytes: Buffer): void {
    if (bytes.length === 0) return
    this.#chunks.push({ stream, bytes })
    this.#changed.emit('change')
  }

  begin(): void {
    this.#ended = false
  }

  end(): void {
    this.#ended = true
    this.#changed.emit('change')
  }

  /** From a chunk on; with `follow` until the process ends or the signal aborts. */
  async *read(from: number, follow: boolean, signal?: AbortSignal): AsyncGenerator<OutputChunk> {
    for (let next = from; !signal?.aborted; ) {
      const chunk = this.#chunks[next]
      if (chunk !== undefined) {
        next += 1
        yield chunk
      } else if (!follow || this.#ended) return
      else await once(this.#changed, 'change', signal ? { signal } : {}).catch(() => {})
    }
  }

  /** The last lines, as an engine's log gives them. */
  tail(lines: number): OutputChunk[] {
    const all = this.#chunks.flatMap(({ stream, bytes }) =>
      bytes
        .toString('utf8')
        .split(/(?<=\n)/)
        .map((line) => ({ stream, bytes: Buffer.from(line) })),
    )
    return lines === 0 ? [] : all.slice(-lines)
  }
}

/** Stdin of a process: collected until it is ended. */
export class InputBuffer {
  readonly #parts: Buffer[] = []
  readonly #ended = Promise.withResolvers<void>()

  write(bytes: Buffer): void {
    this.#parts.push(bytes)
  }

  end(): void {
    this.#ended.resolve()
  }

  async readAll(signal: AbortSignal): Promise<Buffer> {
    const aborted = once(signal, 'abort').then(() => Promise.reject(signal.reason))
    aborted.catch(() => {})
    if (signal.aborted) throw signal.reason
    await Promise.race([this.#ended.promise, aborted])
    return Buffer.concat(this.#parts)
  }
}
