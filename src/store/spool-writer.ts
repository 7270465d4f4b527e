import { EventEmitter } from 'node:events'
import { type FileHandle, open, truncate, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import {
  decodeHeader,
  encodeMark,
  encodeRecord,
  incompleteSuffix,
  MAX_RECORD_BYTES,
  type OutputCounts,
  type RecordKind,
  segmentName,
} from './spool-format.ts'

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

/** Records that go into one segment; a fresh one is begun with them. */
interface Group {
  fresh: boolean
  records: Buffer[]
}

/**
 * The one writer of a spool. It bounds disk and memory: the middle goes, the writer never stops. What
 * a disk does not take is a gap, too.
 */
export class SpoolWriter {
  readonly #folder: string
  readonly #bounds: SpoolBounds
  readonly #changed = new EventEmitter().setMaxListeners(0)
  readonly #carry: Record<'stdout' | 'stderr', Buffer> = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) }
  readonly #segments: number[]
  /** Of all output that was assigned to a segment. */
  #counts: OutputCounts
  #file: FileHandle | undefined
  #segmentBytes = 0
  #pending: Buffer[] = []
  #pendingBytes = 0
  #flushed: number
  /** End of the last write that the disk took: what was lost behind it shows with the next one. */
  #readable: number
  #flushing: Promise<void> | undefined
  /** The last segment's end is not known: what follows goes into a fresh one. */
  #broken = false
  #failure: unknown
  #closed = false

  /** `position` is the end of what the folder already holds in `segments`, `counts` the output before it. */
  constructor(
    folder: string,
    segments: readonly number[],
    position: number,
    bounds: SpoolBounds = DEFAULT_BOUNDS,
    counts: OutputCounts = { stdout: 0, stderr: 0 },
  ) {
    this.#folder = folder
    this.#bounds = bounds
    this.#segments = [...segments]
    this.#counts = counts
    this.#flushed = position
    this.#readable = position
    this.#segmentBytes = position - (segments.at(-1) ?? position)
  }

  /** Everything before this position can be read from disk. */
  get flushed(): number {
    return this.#flushed
  }

  /** Nothing was ever written to it. */
  get isEmpty(): boolean {
    return this.#flushed === 0 && this.#pendingBytes === 0
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
    if (this.#closed || this.#readable > position || signal?.aborted) return
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

  /** Writes what is pending and ends the spool; rejects where the disk did not take all of it. May be repeated. */
  async close(): Promise<void> {
    if (this.#closed) return
    for (const stream of ['stdout', 'stderr'] as const) {
      if (this.#carry[stream].length > 0) this.#enqueue(stream, this.#carry[stream])
      this.#carry[stream] = Buffer.alloc(0)
    }
    await this.#flushing
    // A mark behind what was lost at the very end: without it readers would not see the gap.
    if (this.#broken) await this.#write({ fresh: true, records: [encodeMark(new Date(), this.#counts)] })
    this.#closed = true
    await this.#file?.close()
    this.#changed.emit('change')
    if (this.#failure !== undefined) throw this.#failure
  }

  #enqueue(kind: RecordKind, bytes: Buffer): void {
    if (this.#closed) return
    const record = encodeRecord(kind, new Date(), bytes)
    this.#pending.push(record)
    this.#pendingBytes += record.length
    this.#flushing ??= this.#flush()
  }

  async #flush(): Promise<void> {
    while (this.#pending.length > 0) {
      const batch = this.#pending
      this.#pending = []
      for (const group of this.#bySegment(batch)) {
        await this.#write(group)
      }
      this.#pendingBytes -= batch.reduce((sum, record) => sum + record.length, 0)
      this.#changed.emit('change')
    }
    this.#flushing = undefined
  }

  async #write(group: Group): Promise<void> {
    const bytes = Buffer.concat(group.records)
    try {
      const file = await this.#fileFor(group)
      // `write` may take a part of it, on a disk that is filling up.
      await file.writeFile(bytes)
      this.#segmentBytes += bytes.length
      this.#flushed += bytes.length
      this.#readable = this.#flushed
    } catch (error) {
      this.#failure = error
      await this.#abandonSegment()
      this.#flushed += bytes.length
    }
  }

  /** Cuts off what a failed write left of its records; readers find a gap, and then the next segment. */
  async #abandonSegment(): Promise<void> {
    const last = this.#segments.at(-1)
    this.#broken = true
    await this.#file?.close().catch(() => {})
    this.#file = undefined
    if (last !== undefined) await truncate(join(this.#folder, segmentName(last)), this.#segmentBytes).catch(() => {})
  }

  /** Splits a batch where a segment is full, so that no record lies in two. */
  #bySegment(batch: readonly Buffer[]): Group[] {
    const groups: Group[] = []
    let bytes = this.#segmentBytes
    let count = this.#segments.length
    let broken = this.#broken
    let current: Group | undefined
    for (const record of batch) {
      const limit = count <= 1 ? this.#bounds.headBytes : this.#bounds.tailBytes / this.#bounds.tailSegments
      const fresh = count === 0 || broken || (bytes > 0 && bytes + record.length > limit)
      if (fresh || current === undefined) {
        const isFirst = count === 0
        current = { fresh, records: fresh && !isFirst ? [encodeMark(new Date(), this.#counts)] : [] }
        groups.push(current)
        if (fresh) {
          broken = false
          bytes = current.records.reduce((sum, { length }) => sum + length, 0)
          count += 1
        }
      }
      current.records.push(record)
      this.#count(record)
      bytes += record.length
    }
    return groups
  }

  #count(record: Buffer): void {
    const header = decodeHeader(record)
    if (header?.kind !== 'stdout' && header?.kind !== 'stderr') return
    this.#counts = { ...this.#counts, [header.kind]: this.#counts[header.kind] + header.length }
  }

  async #fileFor(group: Group): Promise<FileHandle> {
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
    this.#broken = false
    // The first segment is the head and stays.
    while (this.#segments.length > this.#bounds.tailSegments + 1) {
      const [dropped] = this.#segments.splice(1, 1)
      if (dropped !== undefined) await unlink(join(this.#folder, segmentName(dropped)))
    }
    return this.#file
  }
}
