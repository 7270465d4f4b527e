import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { demultiplex } from '../../../../src/engine/docker/demux.ts'
import type { OutputChunk } from '../../../../src/engine/engine.ts'
import { collect, cutAt, cuts, reads, rejection } from '../../support/streams.ts'

const STDIN = 0
const STDOUT = 1
const STDERR = 2
const SYSTEM_ERROR = 3

function frame(type: number, content: string | Buffer): Buffer {
  const bytes = Buffer.from(content)
  const header = Buffer.alloc(8)
  header.writeUInt8(type)
  header.writeUInt32BE(bytes.length, 4)
  return Buffer.concat([header, bytes])
}

/** What each stream carried, whatever the pieces. */
function byStream(chunks: readonly OutputChunk[]): { stdout: string; stderr: string } {
  const of = (stream: OutputChunk['stream']) =>
    Buffer.concat(chunks.filter((chunk) => chunk.stream === stream).map((chunk) => chunk.bytes)).toString('utf8')
  return { stdout: of('stdout'), stderr: of('stderr') }
}

/** The chunks with neighbours of one stream joined: what does not depend on the pieces. */
function joined(chunks: readonly OutputChunk[]): { stream: string; hex: string }[] {
  const runs: { stream: string; hex: string }[] = []
  for (const { stream, bytes } of chunks) {
    const last = runs.at(-1)
    if (last?.stream === stream) last.hex += bytes.toString('hex')
    else runs.push({ stream, hex: bytes.toString('hex') })
  }
  return runs
}

describe('demultiplex', () => {
  it('tells stdout from stderr, and counts the frames of type 0 to stdout', async () => {
    const bytes = Buffer.concat([frame(STDOUT, 'out'), frame(STDERR, 'err'), frame(STDIN, '!')])
    const chunks = await collect(demultiplex(reads([bytes])))
    expect(chunks.map(({ stream, bytes: content }) => [stream, content.toString()])).toEqual([
      ['stdout', 'out'],
      ['stderr', 'err'],
      ['stdout', '!'],
    ])
  })

  it('joins short lines of one stream in a read, and copies no long ones', async () => {
    const long = 'x'.repeat(1000)
    const frames = ['a', 'b', long, long, 'c'].map((line) => frame(STDOUT, line))
    const chunks = await collect(demultiplex(reads([Buffer.concat([...frames, frame(STDERR, 'd')])])))
    expect(chunks.map(({ stream, bytes }) => [stream, bytes.toString()])).toEqual([
      ['stdout', 'ab'],
      ['stdout', long],
      ['stdout', long],
      ['stdout', 'c'],
      ['stderr', 'd'],
    ])
  })

  it('gives the same output wherever two frames are split', async () => {
    const bytes = Buffer.concat([frame(STDOUT, 'grüße\n'), frame(STDERR, '🦀')])
    for (let place = 0; place <= bytes.length; place++) {
      const chunks = await collect(demultiplex(reads([bytes.subarray(0, place), bytes.subarray(place)])))
      expect(byStream(chunks), `split at ${place}`).toEqual({ stdout: 'grüße\n', stderr: '🦀' })
    }
  })

  it('gives the same output when every byte comes alone', async () => {
    const bytes = Buffer.concat([frame(STDOUT, 'a'), frame(STDERR, ''), frame(STDERR, 'bc'), frame(STDOUT, 'd')])
    const chunks = await collect(demultiplex(reads([...bytes].map((byte) => Buffer.from([byte])))))
    expect(byStream(chunks)).toEqual({ stdout: 'ad', stderr: 'bc' })
  })

  it('keeps every byte and the order of streams for any frames in any pieces', async () => {
    const frames = fc.array(fc.tuple(fc.constantFrom(STDOUT, STDERR), fc.uint8Array({ maxLength: 40 })))
    await fc.assert(
      fc.asyncProperty(frames, cuts, async (parts, places) => {
        const bytes = Buffer.concat(parts.map(([type, content]) => frame(type, Buffer.from(content))))
        const chunks = await collect(demultiplex(reads(cutAt(bytes, places))))
        const expected = parts
          .filter(([, content]) => content.length > 0)
          .map(([type, content]) => ({
            stream: type === STDERR ? ('stderr' as const) : ('stdout' as const),
            bytes: Buffer.from(content),
          }))
        expect(joined(chunks)).toEqual(joined(expected))
      }),
    )
  })

  it('passes the part of a frame on that has come, before the rest of it', async () => {
    const whole = frame(STDOUT, Buffer.alloc(1024 * 1024, 'x'))
    let given = 0
    async function* slow() {
      for (let from = 0; from < whole.length; from += 64 * 1024) {
        const piece = whole.subarray(from, from + 64 * 1024)
        given += piece.length
        yield piece
      }
    }
    let received = 0
    for await (const { bytes } of demultiplex(slow())) {
      received += bytes.length
      expect(bytes.length).toBeLessThanOrEqual(64 * 1024)
      // All that has been read, but for the header, is with the reader: nothing is held back.
      expect(received).toBe(given - 8)
    }
    expect(received).toBe(1024 * 1024)
  })

  it('does not read on while its reader is busy', async () => {
    let read = 0
    async function* source() {
      for (let count = 0; count < 100; count++) {
        read += 1
        yield frame(STDOUT, 'x')
      }
    }
    const chunks = demultiplex(source())
    await chunks.next()
    expect(read).toBe(1)
    await chunks.return(undefined)
    expect(read).toBe(1)
  })

  it.each([
    ['an unknown stream', Buffer.from([4, 0, 0, 0, 0, 0, 0, 1, 65])],
    ['bytes that Docker leaves zero', Buffer.from([1, 0, 9, 0, 0, 0, 0, 1, 65])],
    ['a length beyond any frame', Buffer.from([1, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff])],
    ['raw text without frames', Buffer.from('plain text, no frames')],
    ['an HTTP error page', Buffer.from('<html>502 Bad Gateway</html>')],
  ])('refuses a header with %s', async (_, bytes) => {
    const error = await rejection(collect(demultiplex(reads([bytes]))))
    expect(error).toMatchObject({ name: 'EngineError', fault: 'protocol' })
    expect((error as Error).message).toContain(bytes.subarray(0, 8).toString('hex'))
  })

  it('accepts a frame of 1 MiB and refuses one byte more', async () => {
    const most = frame(STDOUT, Buffer.alloc(2 ** 20))
    expect(byStream(await collect(demultiplex(reads([most])))).stdout).toHaveLength(2 ** 20)
    const header = Buffer.from([1, 0, 0, 0, 0, 0x10, 0, 1])
    expect(await rejection(collect(demultiplex(reads([header]))))).toMatchObject({ fault: 'protocol' })
  })

  it('tells an end inside a header or a frame from a clean end, wherever it is', async () => {
    const bytes = frame(STDOUT, 'abc')
    for (let length = 1; length < bytes.length; length++) {
      const error = await rejection(collect(demultiplex(reads([bytes.subarray(0, length)]))))
      expect(error, `cut to ${length}`).toMatchObject({ fault: 'unavailable', code: 'engine_unavailable' })
    }
    expect(byStream(await collect(demultiplex(reads([bytes]))))).toEqual({ stdout: 'abc', stderr: '' })
    expect(await collect(demultiplex(reads([])))).toEqual([])
  })

  it('gives the output before a cut', async () => {
    const chunks: OutputChunk[] = []
    const cut = frame(STDOUT, 'abcdef').subarray(0, 8 + 3)
    await rejection(
      (async () => {
        for await (const chunk of demultiplex(reads([frame(STDERR, 'one'), cut]))) chunks.push(chunk)
      })(),
    )
    expect(byStream(chunks)).toEqual({ stdout: 'abc', stderr: 'one' })
  })

  it("fails with the daemon's own words, and spills none of them into stdout", async () => {
    const chunks: OutputChunk[] = []
    const bytes = Buffer.concat([frame(STDOUT, 'fine'), frame(SYSTEM_ERROR, 'log driver broke')])
    const error = await rejection(
      (async () => {
        for await (const chunk of demultiplex(reads([bytes]))) chunks.push(chunk)
      })(),
    )
    expect(error).toMatchObject({ fault: 'failed' })
    expect((error as Error).message).toContain('log driver broke')
    expect(byStream(chunks)).toEqual({ stdout: 'fine', stderr: '' })
  })

  it("tells the daemon's words whole wherever they are split", async () => {
    const bytes = frame(SYSTEM_ERROR, 'größe: 漢🦀')
    for (let place = 0; place <= bytes.length; place++) {
      const pieces = [bytes.subarray(0, place), bytes.subarray(place)]
      const error = await rejection(collect(demultiplex(reads(pieces))))
      expect((error as Error).message, `split at ${place}`).toContain('größe: 漢🦀')
    }
  })
})
