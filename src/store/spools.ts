import { type FileHandle, mkdir, open, readdir, rm, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { sideBySide } from '../side-by-side.ts'
import {
  countsBehind,
  decodeHeader,
  HEADER_BYTES,
  type OutputCounts,
  type RecordKind,
  type SpoolGap,
  type SpoolRecord,
  segmentName,
  segmentStarts,
} from './spool-format.ts'
import { DEFAULT_BOUNDS, type SpoolBounds, SpoolWriter } from './spool-writer.ts'

const READ_BYTES = 256 * 1024
/** Folders that are looked through at once: a process may have only so many open. */
const SIZED_AT_ONCE = 16

export interface ReadOptions {
  /** Id of the last record that is known; from the beginning where absent. */
  after?: number | undefined
  kinds?: ReadonlySet<RecordKind>
  /** Goes on while the spool is being written, until it closes. */
  follow?: boolean
  signal?: AbortSignal
}

/** The output of every run and relic, on disk, by id. One writer each, any number of readers. */
export class Spools {
  readonly #folder: string
  readonly #bounds: SpoolBounds
  readonly #writers = new Map<string, SpoolWriter>()
  readonly #opening = new Map<string, Promise<SpoolWriter>>()

  constructor(folder: string, bounds: SpoolBounds = DEFAULT_BOUNDS) {
    this.#folder = folder
    this.#bounds = bounds
  }

  /** The writer of a spool; what an earlier process wrote stays, but for a record cut off by its end. */
  async open(id: string): Promise<SpoolWriter> {
    const writing = this.#writers.get(id)
    if (writing !== undefined && !writing.closed) return writing
    const opening = this.#opening.get(id) ?? this.#open(id).finally(() => this.#opening.delete(id))
    this.#opening.set(id, opening)
    return opening
  }

  async #open(id: string): Promise<SpoolWriter> {
    const folder = this.#path(id)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const segments = segmentStarts(await readdir(folder))
    const last = segments.at(-1)
    const end = last === undefined ? 0 : last + (await this.#mend(folder, last))
    const writer = new SpoolWriter(folder, segments, end, this.#bounds, await countsOf(folder, segments))
    this.#writers.set(id, writer)
    return writer
  }

  /** Records in order, and gaps where the middle is kept no more. Empty where nothing was written. */
  async *read(id: string, options: ReadOptions = {}): AsyncGenerator<SpoolRecord | SpoolGap> {
    const { kinds, follow = false, signal } = options
    const folder = this.#path(id)
    let position = options.after ?? 0
    // An id from outside may lie inside a record: its segment is read from its beginning.
    let aligned = options.after === undefined
    while (!signal?.aborted) {
      // One that is just being opened will be written to.
      const writer = (await this.#opening.get(id)) ?? this.#writers.get(id)
      const closed = writer === undefined || writer.closed
      const segments = writer?.segments ?? segmentStarts(await readdir(folder).catch(() => []))
      const end = writer === undefined ? Number.POSITIVE_INFINITY : writer.flushed
      for (const start of [...segments]) {
        const next = segments.find((other) => other > start) ?? Number.POSITIVE_INFINITY
        if (position >= next || signal?.aborted) continue
        if (position < start) {
          yield { id: start, kind: 'gap', bytes: start - position }
          position = start
          aligned = true
        }
        const from = aligned ? position : start
        for await (const record of readSegment(join(folder, segmentName(start)), start, from, end)) {
          if (record.id <= position) continue
          position = record.id
          aligned = true
          if (kinds === undefined || kinds.has(record.kind)) yield record
          if (signal?.aborted) return
        }
      }
      if (!follow || closed) return
      await writer.more(position, signal)
    }
  }

  /** Position after the last record. */
  async end(id: string): Promise<number> {
    const writer = this.#writers.get(id)
    if (writer !== undefined) return writer.flushed
    const folder = this.#path(id)
    const last = segmentStarts(await readdir(folder).catch(() => [])).at(-1)
    return last === undefined ? 0 : last + (await stat(join(folder, segmentName(last)))).size
  }

  /** True while it is written to. */
  isOpen(id: string): boolean {
    return this.#opening.has(id) || this.#writers.has(id)
  }

  /** What each spool takes on disk, the longest untouched first. */
  async sizes(): Promise<{ id: string; bytes: number }[]> {
    const ids = await readdir(this.#folder).catch(() => [])
    const sizes = await sideBySide(ids, SIZED_AT_ONCE, (id) => this.#size(id))
    return sizes.flatMap((size) => size ?? []).toSorted((a, b) => a.at - b.at)
  }

  async #size(id: string): Promise<{ id: string; bytes: number; at: number } | undefined> {
    const folder = this.#path(id)
    try {
      const files = await Promise.all((await readdir(folder)).map((name) => stat(join(folder, name))))
      const at = Math.max(0, ...files.map(({ mtimeMs }) => mtimeMs))
      return { id, bytes: files.reduce((sum, { size }) => sum + size, 0), at }
    } catch {
      // Removed since it was listed.
      return undefined
    }
  }

  /** Ends a writer; its spool stays. */
  async seal(id: string): Promise<void> {
    const writer = this.#writers.get(id)
    await writer?.close().finally(() => this.#writers.delete(id))
  }

  async remove(id: string): Promise<void> {
    await this.seal(id)
    await rm(this.#path(id), { recursive: true, force: true })
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#writers.keys()].map((id) => this.seal(id)))
  }

  #path(id: string): string {
    return join(this.#folder, id)
  }

  /** Cuts off what follows the last whole record of a segment; answers the length that is left. */
  async #mend(folder: string, start: number): Promise<number> {
    const path = join(folder, segmentName(start))
    let end = 0
    for await (const record of readSegment(path, start, start, Number.POSITIVE_INFINITY)) end = record.id - start
    await truncate(path, end)
    return end
  }
}

/** The output of each stream up to the end: what the last mark tells, and what came after it. */
async function countsOf(folder: string, segments: readonly number[]): Promise<OutputCounts> {
  const none = { stdout: 0, stderr: 0 }
  // A mark that was cut off by a crash leaves the counting to the segment before.
  for (let first = segments.length - 1; first >= 0; first--) {
    let counts: OutputCounts | undefined = first === 0 ? none : undefined
    for (const start of segments.slice(first)) {
      for await (const record of readSegment(
        join(folder, segmentName(start)),
        start,
        start,
        Number.POSITIVE_INFINITY,
      )) {
        if (counts === undefined && record.kind !== 'mark') break
        counts = countsBehind(record, counts ?? none)
      }
      if (counts === undefined) break
    }
    if (counts !== undefined) return counts
  }
  return none
}

/** The whole records of one segment between two positions. */
async function* readSegment(path: string, start: number, from: number, end: number): AsyncGenerator<SpoolRecord> {
  let file: FileHandle
  try {
    file = await open(path, 'r')
  } catch {
    // Replaced by newer output since the list was read; the next round finds the gap.
    return
  }
  try {
    let held: Buffer = Buffer.alloc(0)
    let offset = from - start
    let position = from
    while (position < end) {
      const chunk = Buffer.allocUnsafe(READ_BYTES)
      const { bytesRead } = await file.read(chunk, 0, READ_BYTES, offset)
      if (bytesRead === 0) return
      offset += bytesRead
      held = Buffer.concat([held, chunk.subarray(0, bytesRead)])
      for (let header = decodeHeader(held); header !== undefined; header = decodeHeader(held)) {
        const size = HEADER_BYTES + header.length
        if (held.length < size) break
        position += size
        if (position > end) return
        const data = held.subarray(HEADER_BYTES, size)
        yield { id: position, kind: header.kind, at: header.at, text: data.toString('utf8'), data, bytes: data.length }
        held = held.subarray(size)
      }
      if (held.length >= HEADER_BYTES && decodeHeader(held) === undefined) return
    }
  } finally {
    await file.close()
  }
}
