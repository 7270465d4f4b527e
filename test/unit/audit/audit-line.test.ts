import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bounded, checkLine, encodeLine, GENESIS, MAX_LINE_BYTES } from '../../../src/audit/audit-line.ts'
import { ENTRY } from './support.ts'

const AT = '2026-11-21T04:05:06.789Z'
const bytesOf = (text: string) => Buffer.from(text.slice(0, -1), 'latin1')

describe('a line of the audit log', () => {
  it('has its place in the chain, and the fields of an entry', () => {
    const { text, link } = encodeLine(ENTRY, AT, { seq: 6, hash: 'ab'.repeat(32) })
    expect(JSON.parse(text)).toEqual({ seq: 7, at: AT, prev: 'ab'.repeat(32), ...ENTRY, hash: link.hash })
    expect(checkLine(bytesOf(text), { seq: 6, hash: 'ab'.repeat(32) })).toEqual({ seq: 7, hash: link.hash })
  })

  it('is one line of printable ASCII, whatever is in an entry, and gives back what was in it', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(0xffff), { maxLength: 60 }), (units) => {
        const resource = String.fromCharCode(...units)
        const { text } = encodeLine({ ...ENTRY, resource }, AT, GENESIS)
        expect(text).toMatch(/^[\x20-\x7e]+\n$/)
        expect(JSON.parse(text).resource).toBe(resource)
      }),
    )
  })

  it('takes nothing that is not of an entry, and no more of a string than its bound', () => {
    const given = { ...ENTRY, resource: `/${'\u0000'.repeat(99_999)}`, owner: '\u{10ffff}'.repeat(999), secret: 'hush' }
    const kept = bounded(given)
    expect(Object.keys(kept)).toEqual(Object.keys(ENTRY))
    expect([kept.resource.length, kept.resource.at(-1), kept.owner?.length]).toEqual([1024, '…', 128])
    const everyField = Object.fromEntries(
      Object.entries(ENTRY).map(([field]) => [field, '\u0000'.repeat(99_999)]),
    ) as unknown as typeof ENTRY
    const longest = encodeLine({ ...bounded(everyField), decision: 'allow', status: 599 }, AT, GENESIS)
    expect(longest.text.length).toBeLessThan(MAX_LINE_BYTES)
    expect(bounded(ENTRY)).toEqual(ENTRY)
  })

  it('is told from what does not continue the chain', () => {
    const first = encodeLine(ENTRY, AT, GENESIS)
    const second = encodeLine(ENTRY, AT, first.link)
    expect(checkLine(bytesOf(second.text), first.link)).toEqual(second.link)
    expect(checkLine(bytesOf(second.text), GENESIS)).toContain('number 2, where 1 is due')
    expect(checkLine(bytesOf(second.text), { seq: 1, hash: 'cd'.repeat(32) })).toContain('does not continue')
    expect(checkLine(bytesOf(second.text), { hash: first.link.hash })).toEqual(second.link)
    expect(checkLine(bytesOf(second.text), undefined)).toEqual(second.link)
  })

  it.each([
    ['nothing', ''],
    ['something else', '{"seq":1}'],
    ['a hash alone', `,"hash":"${'ab'.repeat(32)}"}`],
    ['what is too long', 'x'.repeat(MAX_LINE_BYTES + 1)],
  ])('is told from %s', (_, text) => expect(typeof checkLine(Buffer.from(text), undefined)).toBe('string'))
})
