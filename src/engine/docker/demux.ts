import { EngineError } from '../../errors.ts'
import type { OutputChunk, OutputStream } from '../engine.ts'
import { ReadBuffers } from './read-buffers.ts'

const HEADER_BYTES = 8
/** A daemon writes frames of at most 32 KiB; anything near this bound is not a frame. */
const MAX_FRAME_BYTES = 1024 * 1024

/** Of a piece that is joined with its neighbour. */
const SHORT_BYTES = 256

/** Type byte of a frame, as in Docker's "Stream format" of the attach call. */
const STREAMS: Record<number, OutputStream | undefined> = { 0: 'stdout', 1: 'stdout', 2: 'stderr' }
const SYSTEM_ERROR = 3

/** One for all streams, as V8 has one heap for them. */
const readBuffers = new ReadBuffers()

/**
 * Splits a multiplexed stream into pieces of stdout and stderr, each passed on as it arrives: what
 * is held is one socket read, and a slow reader slows the source. Short neighbours of one stream within a
 * read are one piece: an engine frames every line.
 *
 * Throws a `protocol` fault for a header that is none, an `unavailable` fault for an end inside a
 * frame, and the daemon's own words for a frame of its error stream; the output before comes first.
 */
export async function* demultiplex(source: AsyncIterable<Buffer>): AsyncGenerator<OutputChunk> {
  const frames = new Frames()
  for await (const data of source) {
    readBuffers.read(data.length)
    const pieces: Piece[] = []
    let fault: unknown
    try {
      frames.split(data, pieces)
    } catch (error) {
      fault = error
    }
    for (const { stream, parts } of pieces) yield { stream, bytes: whole(parts) }
    if (fault !== undefined) throw fault
  }
  if (frames.isInside) {
    throw new EngineError('unavailable', 'The engine ended an output stream in the middle of a frame')
  }
}

/** Bytes of one stream in a row. */
interface Piece {
  stream: OutputStream
  parts: Buffer[]
}

/** Where in a multiplexed stream its reader is. */
class Frames {
  /** As much of a header as the last read had of it. */
  #header: Buffer = Buffer.alloc(0)
  /** Bytes of the frame that are still to come. */
  #remaining = 0
  #type = 0
  readonly #systemError: Buffer[] = []

  /** True within a frame or a header. */
  get isInside(): boolean {
    return this.#remaining > 0 || this.#header.length > 0
  }

  /** Adds what is in a read to the pieces, also where it throws for what comes behind. */
  split(data: Buffer, pieces: Piece[]): void {
    let at = 0
    while (at < data.length) {
      if (this.#remaining === 0) {
        at = this.#takeHeader(data, at)
        continue
      }
      const bytes = data.subarray(at, at + this.#remaining)
      at += bytes.length
      this.#remaining -= bytes.length
      const stream = STREAMS[this.#type]
      if (stream === undefined) this.#takeError(bytes)
      else add(pieces, stream, bytes)
    }
  }

  /** Answers where it ends, or the end of what there is of it. */
  #takeHeader(data: Buffer, at: number): number {
    const end = at + HEADER_BYTES - this.#header.length
    const read = data.subarray(at, end)
    const header = this.#header.length === 0 ? read : Buffer.concat([this.#header, read])
    if (header.length < HEADER_BYTES) {
      this.#header = header
      return data.length
    }
    this.#header = Buffer.alloc(0)
    this.#type = header[0] ?? 0
    this.#remaining = header.readUInt32BE(4)
    if (this.#type > SYSTEM_ERROR || header.readUIntBE(1, 3) !== 0 || this.#remaining > MAX_FRAME_BYTES) {
      throw new EngineError('protocol', `The engine sent an output frame with the header ${header.toString('hex')}`)
    }
    if (this.#type === SYSTEM_ERROR && this.#remaining === 0) throw brokenOff('without a word')
    return end
  }

  #takeError(bytes: Buffer): void {
    this.#systemError.push(bytes)
    if (this.#remaining === 0) throw brokenOff(Buffer.concat(this.#systemError).toString('utf8'))
  }
}

/** To the last piece where both are short and of one stream: what is longer is not worth a copy. */
function add(pieces: Piece[], stream: OutputStream, bytes: Buffer): void {
  const last = pieces.at(-1)
  const isJoined = last?.stream === stream && bytes.length <= SHORT_BYTES && (last.parts[0]?.length ?? 0) <= SHORT_BYTES
  if (isJoined) last.parts.push(bytes)
  else pieces.push({ stream, parts: [bytes] })
}

/** Without a copy where it is whole already. */
function whole(parts: readonly Buffer[]): Buffer {
  const [first] = parts
  return first !== undefined && parts.length === 1 ? first : Buffer.concat(parts)
}

function brokenOff(words: string): EngineError {
  return new EngineError('failed', `The engine broke off an output stream: ${words}`)
}
