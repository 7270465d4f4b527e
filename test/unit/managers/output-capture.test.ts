import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BoundedText, OutputCapture } from '../../../src/managers/output-capture.ts'
import { cutAt, cuts, wideText } from '../support/streams.ts'

function captured(limit: number, pieces: Iterable<Buffer>): BoundedText {
  const text = new BoundedText(limit)
  for (const piece of pieces) text.add(piece)
  return text
}

const GAP = /^([\s\S]*)\n\[\.\.\. (\d+) bytes omitted \.\.\.\]\n([\s\S]*)$/

describe('BoundedText', () => {
  it('gives all of what fits, in pieces of any size', () => {
    fc.assert(
      fc.property(wideText, cuts, (given, places) => {
        const bytes = Buffer.from(given)
        const text = captured(1000, cutAt(bytes, places))
        expect(text.text()).toBe(given)
        expect(text.bytes).toBe(bytes.length)
        expect(text.truncated).toBe(false)
      }),
    )
  })

  it('keeps exactly the beginning and the end of what does not, in pieces of any size', () => {
    const ascii = fc.string({ unit: fc.constantFrom(...'abc'), minLength: 11, maxLength: 200 })
    fc.assert(
      fc.property(ascii, cuts, (given, places) => {
        const text = captured(10, cutAt(Buffer.from(given), places))
        expect(text.truncated).toBe(true)
        expect(text.bytes).toBe(given.length)
        expect(text.text()).toBe(
          `${given.slice(0, 5)}\n[... ${given.length - 10} bytes omitted ...]\n${given.slice(-5)}`,
        )
      }),
    )
  })

  it('takes exactly the limit without a cut, and cuts one byte more', () => {
    expect(captured(10, [Buffer.from('0123456789')]).text()).toBe('0123456789')
    expect(captured(10, [Buffer.from('0123456789A')]).text()).toBe('01234\n[... 1 bytes omitted ...]\n6789A')
  })

  it('never shows half a character at a cut, and counts every byte of it', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('é', '€', '🦀', 'a'), minLength: 30, maxLength: 60 }),
        cuts,
        (given, places) => {
          const bytes = Buffer.from(given)
          const text = captured(20, cutAt(bytes, places)).text()
          const [, head = '', omitted, tail = ''] = GAP.exec(text) ?? []
          expect(text).not.toContain('\uFFFD')
          expect(given.startsWith(head)).toBe(true)
          expect(given.endsWith(tail)).toBe(true)
          expect(Number(omitted)).toBe(bytes.length - 20)
        },
      ),
    )
  })

  it('is empty where nothing was written', () => {
    const text = captured(10, [Buffer.alloc(0)])
    expect([text.text(), text.bytes, text.truncated]).toEqual(['', 0, false])
  })

  it('does not keep the read buffer of a small piece', () => {
    const read = Buffer.from('hello world')
    const text = captured(100, [read.subarray(0, 5)])
    read.fill('x')
    expect(text.text()).toBe('hello')
  })

  it('keeps up with a tool that writes each byte by itself', () => {
    const text = new BoundedText()
    const byte = Buffer.from('x')
    for (let count = 0; count < 2 ** 20 + 20_000; count++) text.add(byte)
    text.add(Buffer.from('END'))
    expect(text.bytes).toBe(2 ** 20 + 20_003)
    expect(text.text().slice(-5)).toBe('xxEND')
  })

  it('holds no more than its limit, whatever comes', () => {
    const text = new BoundedText()
    for (let count = 0; count < 200; count++) text.add(Buffer.alloc(64 * 1024, count))
    const kept = text.text()
    expect(text.truncated).toBe(true)
    expect(text.bytes).toBe(200 * 64 * 1024)
    expect(kept).toMatch(/\n\[\.\.\. 12058624 bytes omitted \.\.\.\]\n/)
  })
})

describe('OutputCapture', () => {
  it('keeps the streams apart', () => {
    const capture = new OutputCapture()
    capture.add({ stream: 'stdout', bytes: Buffer.from('out') })
    capture.add({ stream: 'stderr', bytes: Buffer.from('error') })
    expect([capture.stdout.text(), capture.stderr.text()]).toEqual(['out', 'error'])
    expect([capture.bytes('stdout'), capture.bytes('stderr')]).toEqual([3, 5])
  })
})
