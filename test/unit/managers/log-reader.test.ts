import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LogReader } from '../../../src/managers/log-reader.ts'
import { Spools } from '../../../src/store/spools.ts'
import { temporaryFolder } from '../support/folders.ts'
import { collect } from '../support/streams.ts'

type Piece = ['stdout' | 'stderr', string]

let count = 0

/** A sealed spool with these pieces in it. */
async function spooled(spools: Spools, pieces: readonly Piece[]): Promise<string> {
  count += 1
  const id = `exec_${count}`
  const writer = await spools.open(id)
  for (const [stream, text] of pieces) await writer.append(stream, Buffer.from(text))
  await spools.seal(id)
  return id
}

async function withSpools() {
  const spools = new Spools(await temporaryFolder())
  const logs = new LogReader(spools)
  const text = async (id: string, query: { stream?: 'stdout' | 'stderr' | 'all'; tail?: number } = {}) =>
    (await collect(logs.text(id, { stream: 'all', ...query }))).join('')
  return { spools, logs, text }
}

/** The last lines of a text, as `tail -n` gives them. */
function tailOf(text: string, lines: number): string {
  if (lines === 0) return ''
  const all = text.split(/(?<=\n)/)
  return all.slice(-lines).join('')
}

describe('LogReader', () => {
  it('gives the output of all streams, or of one', async () => {
    const { spools, text } = await withSpools()
    const id = await spooled(spools, [
      ['stdout', 'a\n'],
      ['stderr', 'b\n'],
      ['stdout', 'c'],
    ])
    expect(await text(id)).toBe('a\nb\nc')
    expect(await text(id, { stream: 'stdout' })).toBe('a\nc')
    expect(await text(id, { stream: 'stderr' })).toBe('b\n')
  })

  it('gives nothing where nothing was written', async () => {
    const { logs, text } = await withSpools()
    expect(await text('exec_none')).toBe('')
    expect(await text('exec_none', { tail: 5 })).toBe('')
    expect(await logs.lastLines('exec_none', 5)).toBe('')
    expect(await logs.end('exec_none')).toBe(0)
  })

  it.each([
    [0, ''],
    [1, 'three'],
    [2, 'two\nthree'],
    [3, 'one\ntwo\nthree'],
    [9, 'one\ntwo\nthree'],
  ])('gives the last %i lines', async (tail, expected) => {
    const { spools, logs, text } = await withSpools()
    const id = await spooled(spools, [['stdout', 'one\ntwo\nthree']])
    expect(await text(id, { tail })).toBe(expected)
    expect(await logs.lastLines(id, tail)).toBe(expected)
  })

  it('counts a line end at the end to the line before it', async () => {
    const { spools, text } = await withSpools()
    const id = await spooled(spools, [['stdout', 'one\ntwo\n']])
    expect(await text(id, { tail: 1 })).toBe('two\n')
    expect(await text(id, { tail: 2 })).toBe('one\ntwo\n')
  })

  it('gives the same last lines however the output was written', async () => {
    const { spools, text } = await withSpools()
    const piece = fc.tuple(
      fc.constantFrom('stdout' as const, 'stderr' as const),
      fc.string({ unit: fc.constantFrom('a', '\n', '漢'), minLength: 1, maxLength: 6 }),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 8 }),
        fc.nat(8),
        fc.constantFrom('all' as const, 'stdout' as const, 'stderr' as const),
        async (pieces, tail, stream) => {
          const id = await spooled(spools, pieces)
          const whole = pieces.flatMap(([of, text]) => (stream === 'all' || stream === of ? [text] : [])).join('')
          expect(await text(id, { stream, tail })).toBe(tailOf(whole, tail))
        },
      ),
    )
  })

  it('tells changes of state among the events of any stream, and leaves them out of the text', async () => {
    const { spools, logs, text } = await withSpools()
    const writer = await spools.open('exec_state')
    await writer.append('stderr', Buffer.from('e'))
    writer.state({ status: 'running' })
    await writer.append('stdout', Buffer.from('o'))
    await spools.seal('exec_state')
    const events = await collect(logs.events('exec_state', { stream: 'stdout' }))
    expect(events.map((event) => (event.kind === 'gap' ? event : [event.kind, event.text]))).toEqual([
      ['state', '{"status":"running"}'],
      ['stdout', 'o'],
    ])
    expect(await text('exec_state')).toBe('eo')
    expect(await text('exec_state', { tail: 1 })).toBe('eo')
  })

  it('goes on behind an event, and then the tail means nothing', async () => {
    const { spools, logs } = await withSpools()
    const id = await spooled(spools, [
      ['stdout', 'a\n'],
      ['stdout', 'b\n'],
      ['stdout', 'c\n'],
    ])
    const [first] = await collect(logs.events(id, { stream: 'all' }))
    const rest = await collect(logs.events(id, { stream: 'all', after: first?.id, tail: 1 }))
    expect(rest.map((event) => (event.kind === 'gap' ? 'gap' : event.text))).toEqual(['b\n', 'c\n'])
    expect(rest.at(-1)?.id).toBe(await logs.end(id))
  })

  it('follows from the last lines on, and ends when the spool closes', async () => {
    const { spools, logs } = await withSpools()
    const writer = await spools.open('exec_live')
    await writer.append('stdout', Buffer.from('old\nlast\n'))
    // The reader sees what is on disk when it comes.
    await writer.more(0)
    const events = logs.events('exec_live', { stream: 'all', tail: 1, follow: true })
    const first = await events.next()
    await writer.append('stdout', Buffer.from('new\n'))
    await spools.seal('exec_live')
    const seen = [first.value, ...(await collect(events))]
    expect(seen.map((event) => (event && event.kind !== 'gap' ? event.text : event))).toEqual(['last\n', 'new\n'])
  })

  it('says in the text how much of the middle is missing', async () => {
    const spools = new Spools(await temporaryFolder(), { headBytes: 200, tailBytes: 200, tailSegments: 2 })
    const logs = new LogReader(spools)
    const lines = Array.from({ length: 100 }, (_, index): Piece => ['stdout', `line ${index}\n`])
    const id = await spooled(spools, lines)
    const text = (await collect(logs.text(id, { stream: 'all' }))).join('')
    expect(text).toMatch(/^line 0\n[\s\S]*\n\n\[\.\.\. \d+ bytes omitted \.\.\.\]\nline \d+\n[\s\S]*line 99\n$/)
    expect(await logs.lastLines(id, 2)).toBe('line 98\nline 99\n')
  })
})
