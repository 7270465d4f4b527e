import { EventEmitter } from 'node:events'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { encodeRecord, incompleteSuffix, MAX_RECORD_BYTES, type RecordKind, segmentName } from './spool-format.ts'

export interface SpoolBounds {
  /** Kept from the beginning. */
  headBytes: number
  /** Kept from the end, in `tailSegments` files that are replaced in turn. */
  tailBytes: number
  tailSegments: number
}

export const DEFAULT_BOUNDS: SpoolBounds = { headBytes: 32 * 2 ** 20, tailBytes: 32 * 2 ** 20, tailSegments: 8 }

/** Written but not yet on disk, at most; beyond it `append` waits. */
const PENDING_BYTES = 256 * 1024

/** The one writer of a spool. It bounds disk and memory: the middle goes, the writer never stops. */
export class SpoolWriter {
  readonly #folder: string
  readonly #bounds: SpoolBounds
  readonly #changed = new EventEmitter().setMaxListeners(0)
  readonly #carry: Record<'stdout' | 'stderr', Buffer> = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) }
  readonly #segments: number[]
  #file: FileHandle | undefined
  #segmentBytes = 0
  #pending: Buffer[] = []
  #pendingBytes = 0
  #position: number
  #flushed: number
  #flushing: Promise<void> | undefined
  #failure: unknown
  #closed = false

  /** `position` is the end of what the folder already holds in `segments`. */
  constructor(folder: string, segments: readonly number[], position: number, bounds: SpoolBounds = DEFAULT_BOUNDS) {
    this.#folder = folder
    this.#bounds = bounds
    this.#segments = [...segments]
    this.#position = position
    this.#flushed = position
    this.#segmentBytes = position - (segments.at(-1) ?? position)
  }

  /** Everything before this position can be read from disk. */
  get flushed(): number {
    return this.#flushed
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Start positions of the segments on disk. */
  get segments(): readonly number[] {
    return this.#segments
  }

  /** Adds output; resolves once little enough waits for the disk. Characters stay whole in a record. */
  async append(stream: 'stdout' | 'stderr', bytes: Buffer): Promise<void> {
    let rest = this.#carry[stream].length === 0 ? bytes : Buffer.concat([this.#carry[stream], bytes])
    while (rest.length > MAX_RECORD_BYTES) {
      const piece = rest.subarray(0, MAX_RECORD_BYTES)
      const whole = piece.subarray(0, piece.length - incompleteSuffix(piece))
      this.#enqueue(stream, whole)
      rest = rest.subarray(whole.length)
    }
    const cut = rest.length - incompleteSuffix(rest)
    this.#carry[stream] = Buffer.from(rest.subarray(cut))
    if (cut > 0) this.#enqueue(stream, rest.subarray(0, cut))
    if (this.#pendingBytes > PENDING_BYTES) await this.#flushing
  }

  /** Adds a change of state, as JSON. */
  state(value: object): void {
    this.#enqueue('state', Buffer.from(JSON.stringify(value)))
  }

  /** Resolves when there is more to read than `position`, when the writer closes, or on abort. */
  async more(position: number, signal?: AbortSignal): Promise<void> {
    if (this.#closed || this.#flushed > position || signal?.aborted) return
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#changed.off('change', done)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      this.#changed.on('change', done)
      signal?.addEventListener('abort', done)
    })
  }

  /** Writes what is pending and ends the spool; rejects where the disk failed. May be repeated. */
  async close(): Promise<void> {
    if (this.#closed) return
    for (const stream of ['stdout', 'stderr'] as const) {
      if (this.#carry[stream].length > 0) this.#enqueue(stream, this.#carry[stream])
      this.#carry[stream] = Buffer.alloc(0)
    }
    await this.#flushing
    this.#closed = true
    await this.#file?.close()
    this.#changed.emit('change')
    if (this.#failure !== undefined) throw this.#failure
  }

  #enqueue(kind: RecordKind, bytes: Buffer): void {
    if (this.#closed || this.#failure !== undefined) return
    const record = encodeRecord(kind, new Date(), bytes)
    this.#pending.push(record)
    this.#pendingBytes += record.length
    this.#position += record.length
    this.#flushing ??= this.#flush()
  }

  async #flush(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        const batch = this.#pending
        this.#pending = []
        for (const group of this.#bySegment(batch)) {
          const file = await this.#fileFor(group)
          const bytes = Buffer.concat(group.records)
          // `write` may take a part of it, on a disk that is filling up.
          await file.writeFile(bytes)
          this.#segmentBytes += bytes.length
          this.#flushed += bytes.length
          this.#pendingBytes -= bytes.length
        }
        this.#changed.emit('change')
      }
    } catch (error) {
      // Readers end and `close` tells; the container's output is still drained by the writer's owner.
      this.#failure = error
      this.#pending = []
      this.#pendingBytes = 0
    } finally {
      this.#flushing = undefined
    }
  }

  /** Splits a batch where a segment is full, so that no record lies in two. */
  #bySegment(batch: readonly Buffer[]): { fresh: boolean; records: Buffer[] }[] {
    const groups: { fresh: boolean; records: Buffer[] }[] = []
    let bytes = this.#segmentBytes
    let count = this.#segments.length
    let current: { fresh: boolean; records: Buffer[] } | undefined
    for (const record of batch) {
      const limit = count <= 1 ? this.#bounds.headBytes : this.#bounds.tailBytes / this.#bounds.tailSegments
      const fresh = count === 0 || (bytes > 0 && bytes + record.length > limit)
      if (fresh || current === undefined) {
        current = { fresh, records: [] }
        groups.push(current)
        if (fresh) {
          bytes = 0
          count += 1
        }
      }
      current.records.push(record)
      bytes += record.length
    }
    return groups
  }

  async #fileFor(group: { fresh: boolean }): Promise<FileHandle> {
    if (!group.fresh) {
      // Opened again: the last segment goes on where it ended.
      const last = segmentName(this.#segments.at(-1) ?? 0)
      this.#file ??= await open(join(this.#folder, last), 'a', 0o600)
      return this.#file
    }
    await this.#file?.close()
    this.#file = await open(join(this.#folder, segmentName(this.#flushed)), 'w', 0o600)
    this.#segments.push(this.#flushed)
    this.#segmentBytes = 0
    // The first segment is the head and stays.
    while (this.#segments.length > this.#bounds.tailSegments + 1) {
      const [dropped] = this.#segments.splice(1, 1)
      if (dropped !== undefined) await unlink(join(this.#folder, segmentName(dropped)))
    }
    return this.#file
  }
}
