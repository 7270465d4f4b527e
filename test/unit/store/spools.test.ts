import { mkdir, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  encodeRecord,
  HEADER_BYTES,
  type SpoolGap,
  type SpoolRecord,
  segmentName,
} from '../../../src/store/spool-format.ts'
import type { SpoolBounds } from '../../../src/store/spool-writer.ts'
import { Spools } from '../../../src/store/spools.ts'
import { temporaryFolder } from '../support/folders.ts'
import { collect, cutAt, cuts, wideText } from '../support/streams.ts'

const ID = 'exec_1'
const SMALL: SpoolBounds = { headBytes: 300, tailBytes: 400, tailSegments: 4 }

type Event = SpoolRecord | SpoolGap

const textOf = (events: readonly Event[], kind: SpoolRecord['kind'] = 'stdout') =>
  events.map((event) => (event.kind === kind ? event.text : '')).join('')

/** Each event begins where the one before it ended: nothing is missing, repeated or out of order. */
function expectSeamless(events: readonly Event[], from = 0): void {
  let position = from
  for (const event of events) {
    position += event.kind === 'gap' ? event.bytes : HEADER_BYTES + Buffer.byteLength(event.text)
    expect(event.id).toBe(position)
  }
}

async function spooled(spools: Spools, lines: readonly string[], id = ID): Promise<void> {
  const writer = await spools.open(id)
  for (const line of lines) await writer.append('stdout', Buffer.from(line))
  await spools.seal(id)
}

const numbered = (count: number, from = 0) => Array.from({ length: count }, (_, index) => `line ${from + index}\n`)

describe('reading a spool', () => {
  it('gives what was written, in order, with its kind and time', async () => {
    const spools = new Spools(await temporaryFolder())
    const before = Date.now()
    const writer = await spools.open(ID)
    await writer.append('stdout', Buffer.from('out'))
    writer.state({ status: 'running' })
    await writer.append('stderr', Buffer.from('err'))
    await spools.seal(ID)
    const records = await collect(spools.read(ID))
    expect(records.map((record) => record.kind !== 'gap' && [record.kind, record.text])).toEqual([
      ['stdout', 'out'],
      ['state', '{"status":"running"}'],
      ['stderr', 'err'],
    ])
    for (const record of records) {
      const at = record.kind === 'gap' ? 0 : record.at.getTime()
      expect(at >= before && at <= Date.now()).toBe(true)
    }
    expectSeamless(records)
    expect(await spools.end(ID)).toBe(records.at(-1)?.id)
  })

  it('is empty where nothing was written', async () => {
    const spools = new Spools(await temporaryFolder())
    expect(await collect(spools.read('exec_none'))).toEqual([])
    expect(await collect(spools.read('exec_none', { follow: true }))).toEqual([])
    expect(await spools.end('exec_none')).toBe(0)
  })

  it('gives the kinds that are asked for', async () => {
    const spools = new Spools(await temporaryFolder())
    const writer = await spools.open(ID)
    await writer.append('stdout', Buffer.from('out'))
    await writer.append('stderr', Buffer.from('err'))
    await spools.seal(ID)
    const records = await collect(spools.read(ID, { kinds: new Set(['stderr']) }))
    expect(records).toMatchObject([{ kind: 'stderr', text: 'err', id: 2 * (HEADER_BYTES + 3) }])
  })

  it('keeps characters whole that the container wrote in pieces, on each stream by itself', async () => {
    const spools = new Spools(await temporaryFolder())
    const writer = await spools.open(ID)
    const [out, err] = [Buffer.from('漢'), Buffer.from('🦀')]
    for (let place = 0; place < 4; place++) {
      await writer.append('stdout', out.subarray(place, place + 1))
      await writer.append('stderr', err.subarray(place, place + 1))
    }
    await spools.seal(ID)
    const records = await collect(spools.read(ID))
    expect([textOf(records, 'stdout'), textOf(records, 'stderr')]).toEqual(['漢', '🦀'])
  })

  it('survives output that is no UTF-8', async () => {
    const spools = new Spools(await temporaryFolder())
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), cuts, async (content, places) => {
        const writer = await spools.open(ID)
        for (const piece of cutAt(Buffer.from(content), places)) await writer.append('stdout', piece)
        await spools.seal(ID)
        const records = await collect(spools.read(ID))
        const written = records.reduce((total, record) => total + (record.kind === 'gap' ? 0 : record.bytes), 0)
        expect(written).toBe(content.length)
        await spools.remove(ID)
      }),
      { numRuns: 30 },
    )
  })

  it('goes on behind any id without loss or repeat', async () => {
    const spools = new Spools(await temporaryFolder())
    await spooled(spools, numbered(20))
    const all = await collect(spools.read(ID))
    for (const [index, { id }] of all.entries()) {
      expect(await collect(spools.read(ID, { after: id }))).toEqual(all.slice(index + 1))
    }
  })

  it('goes on with the next whole record behind an id that it never gave', async () => {
    const spools = new Spools(await temporaryFolder())
    await spooled(spools, numbered(5))
    const all = await collect(spools.read(ID))
    const last = all.at(-1)?.id ?? 0
    for (let after = 0; after <= last + 30; after++) {
      const expected = all.filter(({ id }) => id > after)
      expect(await collect(spools.read(ID, { after })), `after ${after}`).toEqual(expected)
    }
  })

  it('follows from an id that it never gave', async () => {
    const spools = new Spools(await temporaryFolder())
    const writer = await spools.open(ID)
    await writer.append('stdout', Buffer.from('first\n'))
    await writer.more(0)
    const abort = new AbortController()
    const followed = collect(spools.read(ID, { after: 1, follow: true, signal: abort.signal }))
    try {
      await writer.append('stdout', Buffer.from('second\n'))
      await spools.seal(ID)
      expect(textOf(await followed)).toMatch(/second\n$/)
    } finally {
      abort.abort()
    }
  })
})

describe('following a spool', () => {
  it.each([0, 1, 2, 30])('waits behind an id %i beyond its end, and goes on with what comes', async (beyond) => {
    const spools = new Spools(await temporaryFolder())
    await spooled(spools, ['before\n'])
    const writer = await spools.open(ID)
    const abort = new AbortController()
    // The id of an `end` is one beyond the last record; a service that starts again writes on behind that.
    const after = (await spools.end(ID)) + beyond
    const followed = collect(spools.read(ID, { after, follow: true, signal: abort.signal }))
    try {
      for (const line of numbered(20)) {
        await writer.append('stdout', Buffer.from(line))
        await new Promise((resolve) => setImmediate(resolve))
      }
      await spools.seal(ID)
      const expected = (await collect(spools.read(ID))).filter(({ id }) => id > after)
      expect(await followed).toEqual(expected)
    } finally {
      abort.abort()
    }
  })

  it('sees all records in order and exactly once, however they were written, with many readers', async () => {
    const spools = new Spools(await temporaryFolder())
    await fc.assert(
      fc.asyncProperty(wideText, wideText, cuts, fc.integer({ min: 1, max: 6 }), async (out, err, places, readers) => {
        const writer = await spools.open(ID)
        const streams = { stdout: cutAt(Buffer.from(out), places), stderr: cutAt(Buffer.from(err), places) }
        const following: Promise<Event[]>[] = []
        for (let step = 0; step <= places.length; step++) {
          // Readers come at different times, and each sees all.
          if (step < readers) following.push(collect(spools.read(ID, { follow: true })))
          for (const stream of ['stdout', 'stderr'] as const) {
            await writer.append(stream, streams[stream][step] ?? Buffer.alloc(0))
          }
          if (step % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
        }
        await spools.seal(ID)
        const expected = await collect(spools.read(ID))
        expect([textOf(expected, 'stdout'), textOf(expected, 'stderr')]).toEqual([out, err])
        expectSeamless(expected)
        for (const seen of await Promise.all(following)) expect(seen).toEqual(expected)
        await spools.remove(ID)
      }),
      { numRuns: 40 },
    )
  })

  it('serves fifty readers of one flood', async () => {
    const spools = new Spools(await temporaryFolder())
    const writer = await spools.open(ID)
    const readers = Array.from({ length: 50 }, () => collect(spools.read(ID, { follow: true })))
    const lines = numbered(500)
    for (const line of lines) await writer.append('stdout', Buffer.from(line))
    await spools.seal(ID)
    for (const seen of await Promise.all(readers)) expect(textOf(seen)).toBe(lines.join(''))
  })

  it('ends with the abort of its reader, while the spool goes on', async () => {
    const spools = new Spools(await temporaryFolder())
    const writer = await spools.open(ID)
    const abort = new AbortController()
    const reader = spools.read(ID, { follow: true, signal: abort.signal })
    await writer.append('stdout', Buffer.from('x'))
    expect((await reader.next()).value).toMatchObject({ text: 'x' })
    const waiting = reader.next()
    abort.abort()
    expect(await waiting).toEqual({ done: true, value: undefined })
    await writer.append('stdout', Buffer.from('y'))
    await spools.seal(ID)
    expect(textOf(await collect(spools.read(ID)))).toBe('xy')
  })

  it('gives nothing to a reader that was gone before it came', async () => {
    const spools = new Spools(await temporaryFolder())
    await spooled(spools, ['x'])
    expect(await collect(spools.read(ID, { signal: AbortSignal.abort() }))).toEqual([])
  })

  it('ends where the spool is removed under it', async () => {
    const spools = new Spools(await temporaryFolder())
    const writer = await spools.open(ID)
    await writer.append('stdout', Buffer.from('x'))
    const following = collect(spools.read(ID, { follow: true }))
    await spools.remove(ID)
    expect(['x', '']).toContain(textOf(await following))
    expect(await collect(spools.read(ID))).toEqual([])
  })

  it('goes on with an id of an earlier process', async () => {
    const folder = await temporaryFolder()
    const before = new Spools(folder)
    await spooled(before, numbered(3))
    const seen = await collect(before.read(ID))
    const after = new Spools(folder)
    const writer = await after.open(ID)
    const following = collect(after.read(ID, { after: seen[1]?.id, follow: true }))
    await writer.append('stdout', Buffer.from('new\n'))
    await after.seal(ID)
    expect(textOf(await following)).toBe('line 2\nnew\n')
    expectSeamless(await following, seen[1]?.id)
  })
})

describe('a spool beyond its bounds', () => {
  it('keeps beginning and end, and tells how many bytes are gone', async () => {
    const folder = await temporaryFolder()
    const spools = new Spools(folder, SMALL)
    await spooled(spools, numbered(200))
    const events = await collect(spools.read(ID))
    expectSeamless(events)
    expect(events.filter(({ kind }) => kind === 'gap')).toHaveLength(1)
    expect(events[0]).toMatchObject({ kind: 'stdout', text: 'line 0\n' })
    expect(events.at(-1)).toMatchObject({ kind: 'stdout', text: 'line 199\n' })
    const sizes = await Promise.all(
      (await readdir(join(folder, ID))).map(async (name) => (await stat(join(folder, ID, name))).size),
    )
    expect(sizes.reduce((total, size) => total + size, 0)).toBeLessThanOrEqual(SMALL.headBytes + SMALL.tailBytes)
    expect(await spools.end(ID)).toBe(events.at(-1)?.id)
  })

  it('tells a reader whose place is gone how much it missed', async () => {
    const spools = new Spools(await temporaryFolder(), SMALL)
    await spooled(spools, numbered(200))
    const all = await collect(spools.read(ID))
    const gap = all.find((event) => event.kind === 'gap')
    const middle = (gap?.id ?? 0) - 40
    const rest = await collect(spools.read(ID, { after: middle }))
    expect(rest[0]).toEqual({ id: gap?.id, kind: 'gap', bytes: 40 })
    expect(rest.slice(1)).toEqual(all.slice(all.findIndex(({ kind }) => kind === 'gap') + 1))
    expect(await collect(spools.read(ID, { after: gap?.id }))).toEqual(rest.slice(1))
  })

  it('loses a slow reader nothing that it is not told of', async () => {
    const spools = new Spools(await temporaryFolder(), SMALL)
    const writer = await spools.open(ID)
    await writer.append('stdout', Buffer.from('line 0\n'))
    const events: Event[] = []
    const reading = (async () => {
      for await (const event of spools.read(ID, { follow: true })) {
        events.push(event)
        if (events.length % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 2))
      }
    })()
    for (const line of numbered(400, 1)) {
      await writer.append('stdout', Buffer.from(line))
      if (line.endsWith('0\n')) await new Promise((resolve) => setImmediate(resolve))
    }
    await spools.seal(ID)
    await reading
    expectSeamless(events)
    expect(events.at(-1)).toMatchObject({ text: 'line 400\n' })
  })
})

describe('opening a spool again', () => {
  it('gives all who ask while it is open the same writer', async () => {
    const spools = new Spools(await temporaryFolder())
    const [one, two] = await Promise.all([spools.open(ID), spools.open(ID)])
    expect(two).toBe(one)
    expect(await spools.open(ID)).toBe(one)
    await spools.close()
    expect(one.closed).toBe(true)
  })

  it('goes on behind what is there', async () => {
    const folder = await temporaryFolder()
    await spooled(new Spools(folder), ['a'])
    const spools = new Spools(folder)
    await spooled(spools, ['b'])
    const records = await collect(spools.read(ID))
    expect(textOf(records)).toBe('ab')
    expectSeamless(records)
  })

  it('keeps all of what is within its bounds, however often it is opened', async () => {
    const spools = new Spools(await temporaryFolder())
    for (const line of numbered(15)) await spooled(spools, [line])
    expect(textOf(await collect(spools.read(ID)))).toBe(numbered(15).join(''))
  })

  it('cuts off what a crash left of a last record, wherever it was cut', async () => {
    const whole = encodeRecord('stdout', new Date(), Buffer.from('kept\n'))
    const last = encodeRecord('stdout', new Date(), Buffer.from('€ lost\n'))
    for (let length = 0; length < last.length; length++) {
      const folder = await temporaryFolder()
      await mkdir(join(folder, ID))
      await writeFile(join(folder, ID, segmentName(0)), Buffer.concat([whole, last.subarray(0, length)]))
      const spools = new Spools(folder)
      expect(textOf(await collect(spools.read(ID))), `read, cut to ${length}`).toBe('kept\n')
      await spooled(spools, ['new\n'])
      const records = await collect(spools.read(ID))
      expect(textOf(records), `cut to ${length}`).toBe('kept\nnew\n')
      expectSeamless(records)
    }
  })

  it.each([
    ['empty', Buffer.alloc(0)],
    ['half a record', encodeRecord('stdout', new Date(), Buffer.from('lost')).subarray(0, 13)],
  ])('keeps its beginning and its bounds where the crash left a first segment with %s', async (_, content) => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, ID))
    await writeFile(join(folder, ID, segmentName(0)), content)
    const spools = new Spools(folder, SMALL)
    const writer = await spools.open(ID)
    for (const line of numbered(200)) {
      await writer.append('stdout', Buffer.from(line))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await spools.seal(ID)
    const events = await collect(spools.read(ID))
    expectSeamless(events)
    expect(events[0]).toMatchObject({ text: 'line 0\n' })
    expect(events.at(-1)).toMatchObject({ text: 'line 199\n' })
  })

  it('keeps its end where the crash left a later segment empty', async () => {
    const folder = await temporaryFolder()
    await spooled(new Spools(folder, SMALL), numbered(40))
    const names = (await readdir(join(folder, ID))).sort()
    await truncate(join(folder, ID, names.at(-1) ?? ''), 0)
    const spools = new Spools(folder, SMALL)
    await spooled(spools, numbered(200, 1000))
    const events = await collect(spools.read(ID))
    expectSeamless(events)
    expect(events[0]).toMatchObject({ text: 'line 0\n' })
    expect(events.at(-1)).toMatchObject({ text: 'line 1199\n' })
  })

  it('tells its end by its last whole record', async () => {
    const folder = await temporaryFolder()
    await spooled(new Spools(folder), ['kept'])
    const path = join(folder, ID, segmentName(0))
    await writeFile(path, Buffer.concat([await readFile(path), Buffer.from([0, 0, 0])]))
    const spools = new Spools(folder)
    await spools.open(ID)
    expect(await spools.end(ID)).toBe(HEADER_BYTES + 4)
    await spools.close()
  })
})

describe('removing a spool', () => {
  it('takes its files, may be repeated, and spares others', async () => {
    const folder = await temporaryFolder()
    const spools = new Spools(folder)
    await spooled(spools, ['a'], 'exec_a')
    await spooled(spools, ['b'], 'exec_b')
    await spools.remove('exec_a')
    await spools.remove('exec_a')
    expect(await readdir(folder)).toEqual(['exec_b'])
    expect(textOf(await collect(spools.read('exec_b')))).toBe('b')
  })
})
