import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, stat, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { tellSpool } from '../../../src/managers/output-source.ts'
import { HEADER_BYTES, MAX_RECORD_BYTES, segmentName } from '../../../src/store/spool-format.ts'
import { type SpoolBounds, SpoolWriter } from '../../../src/store/spool-writer.ts'
import { Spools } from '../../../src/store/spools.ts'
import { temporaryFolder } from '../support/folders.ts'
import { collect, rejection } from '../support/streams.ts'

const SMALL: SpoolBounds = { headBytes: 300, tailBytes: 400, tailSegments: 4 }

async function bytesOnDisk(folder: string): Promise<number> {
  const sizes = await Promise.all((await readdir(folder)).map(async (name) => (await stat(join(folder, name))).size))
  return sizes.reduce((total, size) => total + size, 0)
}

describe('SpoolWriter', () => {
  it('counts every byte of every record, and has all of them on disk when it closes', async () => {
    const folder = await temporaryFolder()
    const writer = new SpoolWriter(folder, [], 0)
    await writer.append('stdout', Buffer.from('hello'))
    await writer.append('stderr', Buffer.from(''))
    writer.state({ a: 1 })
    await writer.close()
    const expected = HEADER_BYTES + 5 + HEADER_BYTES + '{"a":1}'.length
    expect(writer.flushed).toBe(expected)
    expect(await bytesOnDisk(folder)).toBe(expected)
    expect(await readdir(folder)).toEqual([segmentName(0)])
  })

  it('is readable to its owner alone', async () => {
    const folder = await temporaryFolder()
    const writer = new SpoolWriter(folder, [], 0)
    await writer.append('stdout', Buffer.from('secret'))
    await writer.close()
    expect((await stat(join(folder, segmentName(0)))).mode & 0o777).toBe(0o600)
  })

  it('never takes more disk than its bounds, whatever is written', async () => {
    const pieces = fc.array(fc.nat(45), { maxLength: 80 })
    await fc.assert(
      fc.asyncProperty(pieces, async (lengths) => {
        const folder = await temporaryFolder()
        const writer = new SpoolWriter(folder, [], 0, SMALL)
        for (const length of lengths) {
          await writer.append('stdout', Buffer.alloc(length, 'x'))
          await writer.more(writer.flushed, AbortSignal.timeout(1))
        }
        await writer.close()
        expect(await bytesOnDisk(folder)).toBeLessThanOrEqual(SMALL.headBytes + SMALL.tailBytes)
        expect((await readdir(folder)).length).toBeLessThanOrEqual(SMALL.tailSegments + 1)
        expect((await readdir(folder)).sort()).toEqual(writer.segments.map(segmentName))
      }),
      { numRuns: 15 },
    )
  })

  it('keeps the first segment and drops the oldest behind it', async () => {
    const folder = await temporaryFolder()
    const writer = new SpoolWriter(folder, [], 0, SMALL)
    for (let count = 0; count < 100; count++) await writer.append('stdout', Buffer.alloc(39, 'x'))
    await writer.close()
    const [head, ...tail] = writer.segments
    expect([head, tail.length]).toEqual([0, SMALL.tailSegments])
    const sizes = await Promise.all(tail.map(async (start) => (await stat(join(folder, segmentName(start)))).size))
    // One behind the other without a gap, up to the end.
    expect(tail.map((start, index) => start + (sizes[index] ?? 0))).toEqual([...tail.slice(1), writer.flushed])
  })

  it('holds its caller back while much waits for the disk', async () => {
    const folder = await temporaryFolder()
    const writer = new SpoolWriter(folder, [], 0)
    const total = 20 * (64 * 1024 + HEADER_BYTES)
    for (let count = 0; count < 20; count++) {
      await writer.append('stdout', Buffer.alloc(64 * 1024))
      const written = (count + 1) * (64 * 1024 + HEADER_BYTES)
      expect(written - writer.flushed).toBeLessThanOrEqual(256 * 1024)
    }
    await writer.close()
    expect(writer.flushed).toBe(total)
  })

  it('splits what is longer than a record, between characters', async () => {
    const folder = await temporaryFolder()
    const writer = new SpoolWriter(folder, [], 0)
    const text = 'a€'.repeat(MAX_RECORD_BYTES / 4 + 10)
    await writer.append('stdout', Buffer.from(text))
    await writer.close()
    expect(writer.flushed).toBe(Buffer.byteLength(text) + 2 * HEADER_BYTES)
  })

  it('tells of more as soon as there is more, at its close, and on an abort', async () => {
    const writer = new SpoolWriter(await temporaryFolder(), [], 0)
    const first = writer.more(0)
    await writer.append('stdout', Buffer.from('x'))
    await first
    expect(writer.flushed).toBe(HEADER_BYTES + 1)
    await writer.more(0)
    const abort = new AbortController()
    const aborted = writer.more(writer.flushed, abort.signal)
    abort.abort()
    await aborted
    await writer.more(writer.flushed, abort.signal)
    const atClose = writer.more(writer.flushed)
    await writer.close()
    await atClose
    await writer.more(writer.flushed)
    expect(writer.closed).toBe(true)
  })

  it('may be closed again, and takes nothing after that', async () => {
    const folder = await temporaryFolder()
    const writer = new SpoolWriter(folder, [], 0)
    await writer.append('stdout', Buffer.from('x'))
    await Promise.all([writer.close(), writer.close()])
    await writer.append('stdout', Buffer.from('late'))
    writer.state({ late: true })
    await writer.close()
    expect(await bytesOnDisk(folder)).toBe(HEADER_BYTES + 1)
  })

  it('writes half a character too, where the output ends in one', async () => {
    const folder = await temporaryFolder()
    const writer = new SpoolWriter(folder, [], 0)
    await writer.append('stdout', Buffer.from('€').subarray(0, 2))
    expect(writer.flushed).toBe(0)
    await writer.close()
    expect(writer.flushed).toBe(HEADER_BYTES + 2)
  })

  it('shows what the disk did not take as a gap, and goes on behind it in whole records', async () => {
    const root = await temporaryFolder()
    const script = `
      const { SpoolWriter } = await import(process.argv[1])
      const writer = new SpoolWriter(process.argv[2], [], 0)
      for (let count = 0; count < 30; count++) {
        await writer.append('stdout', Buffer.alloc(5000, 97))
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      const failure = await writer.close().then(() => null, (error) => error.code)
      console.log(JSON.stringify({ flushed: writer.flushed, failure }))`
    // A file may grow to 64 KiB: the write that would go beyond is cut, and the next one fails.
    const limited = `trap '' XFSZ; ulimit -f 64; exec "$0" --input-type=module -e "$1" "$2" "$3"`
    const module = new URL('../../../src/store/spool-writer.ts', import.meta.url).href
    await mkdir(join(root, 'run'))
    const { stdout } = await promisify(execFile)('bash', [
      '-c',
      limited,
      process.execPath,
      script,
      module,
      join(root, 'run'),
    ])
    const { flushed, failure } = JSON.parse(stdout) as { flushed: number; failure: string | null }
    expect(failure).toBe('EFBIG')
    const records = await collect(new Spools(root).read('run'))
    expect(records.filter(({ kind }) => kind === 'gap').length).toBeGreaterThan(0)
    const output = records.flatMap((record) => (record.kind === 'stdout' ? [record] : []))
    expect(new Set(output.map(({ text }) => text))).toEqual(new Set(['a'.repeat(5000)]))
    expect(output.length).toBeGreaterThan(0)
    expect(records.at(-1)?.id).toBe(flushed)
    // Whoever goes on from here knows how much there was, kept or not.
    const again = await new Spools(root).open('run')
    await again.append('stderr', Buffer.from('behind'))
    await again.close()
    const taker = { add: vi.fn(), omit: vi.fn() }
    await tellSpool(new Spools(root), 'run', [taker])
    const omitted = taker.omit.mock.calls.reduce((sum, [, bytes]) => sum + Number(bytes), 0)
    expect(output.length * 5000 + omitted).toBe(30 * 5000)
  })

  it('goes on where the disk has room again, and tells when it closes that it was full', async () => {
    const root = await temporaryFolder()
    const folder = join(root, 'run')
    await mkdir(folder)
    // Every write to this device fails with ENOSPC.
    await symlink('/dev/full', join(folder, segmentName(0)))
    const writer = new SpoolWriter(folder, [], 0)
    await writer.append('stdout', Buffer.from('lost'))
    await writer.more(0)
    await writer.append('stdout', Buffer.from('kept'))
    expect(await rejection(writer.close())).toMatchObject({ code: 'ENOSPC' })
    expect(writer.segments).toHaveLength(2)
    const [start = 0] = writer.segments.slice(1)
    const text = await readFile(join(folder, segmentName(start)), 'utf8')
    expect(text).toContain('{"stdout":4,"stderr":0}')
    expect(text).toContain('kept')
    expect(start).toBe(HEADER_BYTES + 'lost'.length)
  })
})
