import { EngineError } from '../../errors.ts'
import type { OutputChunk, OutputStream } from '../engine.ts'

const HEADER_BYTES = 8
/** A daemon writes frames of at most 32 KiB; anything near this bound is not a frame. */
const MAX_FRAME_BYTES = 1024 * 1024

/** Type byte of a frame, as in Docker's "Stream format" of the attach call. */
const STREAMS: Record<number, OutputStream | undefined> = { 0: 'stdout', 1: 'stdout', 2: 'stderr' }
const SYSTEM_ERROR = 3

/**
 * Splits a multiplexed stream into pieces of stdout and stderr, each passed on as it arrives: what
 * is held is one socket read, and a slow reader slows the source.
 *
 * Throws a `protocol` fault for a header that is none, an `unavailable` fault for an end inside a
 * frame, and the daemon's own words for a frame of its error stream.
 */
export async function* demultiplex(source: AsyncIterable<Buffer>): AsyncGenerator<OutputChunk> {
  let header = Buffer.alloc(0)
  let remaining = 0
  let type = 0
  const systemError: Buffer[] = []

  for await (let data of source) {
    while (data.length > 0) {
      if (remaining === 0) {
        const wanted = HEADER_BYTES - header.length
        header = Buffer.concat([header, data.subarray(0, wanted)])
        data = data.subarray(wanted)
        if (header.length < HEADER_BYTES) break
        type = header[0] ?? 0
        remaining = header.readUInt32BE(4)
        if (type > SYSTEM_ERROR || header.readUIntBE(1, 3) !== 0 || remaining > MAX_FRAME_BYTES) {
          throw new EngineError('protocol', `The engine sent an output frame with the header ${header.toString('hex')}`)
        }
        header = Buffer.alloc(0)
        if (type === SYSTEM_ERROR && remaining === 0) throw brokenOff('without a word')
        continue
      }
      const bytes = data.subarray(0, remaining)
      data = data.subarray(bytes.length)
      remaining -= bytes.length
      const stream = STREAMS[type]
      if (stream !== undefined) yield { stream, bytes }
      else systemError.push(bytes)
      if (systemError.length > 0 && remaining === 0) {
        throw brokenOff(Buffer.concat(systemError).toString('utf8'))
      }
    }
  }
  if (remaining > 0 || header.length > 0) {
    throw new EngineError('unavailable', 'The engine ended an output stream in the middle of a frame')
  }
}

function brokenOff(words: string): EngineError {
  return new EngineError('failed', `The engine broke off an output stream: ${words}`)
}
