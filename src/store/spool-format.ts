/**
 * How output lies on disk. A spool is a folder of segments, each named by the position of its first
 * record; a record is a header (kind 1 byte, milliseconds since 1970 6 bytes, length 4 bytes) and its
 * bytes. Positions count all bytes ever written, so a record's end is an id that only grows, and what
 * was dropped between two segments shows as a gap between their positions. Every segment but the first
 * begins with a mark, which counts the output of each stream before it, kept or not.
 */
export type RecordKind = 'stdout' | 'stderr' | 'state' | 'mark'

/** Bytes of output of each stream, from its beginning. */
export type OutputCounts = Record<'stdout' | 'stderr', number>

export interface SpoolRecord {
  /** Position after the record: reading from there continues without loss or repeat. */
  id: number
  kind: RecordKind
  at: Date
  text: string
  /** As it was written: what is no UTF-8 reads as other characters in `text`. */
  data: Buffer
  /** Length of `data`. */
  bytes: number
}

/** Bytes that were written and are kept no more. */
export interface SpoolGap {
  id: number
  kind: 'gap'
  bytes: number
}

const KINDS: readonly RecordKind[] = ['stdout', 'stderr', 'state', 'mark']
export const HEADER_BYTES = 11
export const MAX_RECORD_BYTES = 256 * 1024

export function encodeRecord(kind: RecordKind, at: Date, bytes: Buffer): Buffer {
  const header = Buffer.allocUnsafe(HEADER_BYTES)
  header.writeUInt8(KINDS.indexOf(kind))
  header.writeUIntBE(at.getTime(), 1, 6)
  header.writeUInt32BE(bytes.length, 7)
  return Buffer.concat([header, bytes])
}

export function encodeMark(at: Date, { stdout, stderr }: OutputCounts): Buffer {
  return encodeRecord('mark', at, Buffer.from(JSON.stringify({ stdout, stderr })))
}

/** The counts behind a record, where those before it are known; a mark tells its own. */
export function countsBehind({ kind, bytes, text }: SpoolRecord, before: OutputCounts): OutputCounts {
  if (kind === 'mark') return JSON.parse(text) as OutputCounts
  return kind === 'state' ? before : { ...before, [kind]: before[kind] + bytes }
}

export interface RecordHeader {
  kind: RecordKind
  at: Date
  length: number
}

/** Undefined where the bytes are no header: a write that was cut off by a crash. */
export function decodeHeader(bytes: Buffer): RecordHeader | undefined {
  if (bytes.length < HEADER_BYTES) return undefined
  const kind = KINDS[bytes.readUInt8(0)]
  const length = bytes.readUInt32BE(7)
  if (kind === undefined || length > MAX_RECORD_BYTES) return undefined
  return { kind, at: new Date(bytes.readUIntBE(1, 6)), length }
}

const SEGMENT_NAME = /^(\d{16})\.seg$/

export function segmentName(start: number): string {
  return `${String(start).padStart(16, '0')}.seg`
}

/** The start positions among a folder's file names, in order. */
export function segmentStarts(names: readonly string[]): number[] {
  return names
    .flatMap((name) => SEGMENT_NAME.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b)
}

/** How many bytes at the end begin a UTF-8 character that is not complete yet (0 to 3). */
export function incompleteSuffix(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0
    if ((byte & 0b1100_0000) === 0b1000_0000) continue
    const width = byte >= 0b1111_0000 ? 4 : byte >= 0b1110_0000 ? 3 : byte >= 0b1100_0000 ? 2 : 1
    return width > back ? back : 0
  }
  return 0
}
