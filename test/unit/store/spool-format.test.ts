import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  decodeHeader,
  encodeRecord,
  HEADER_BYTES,
  incompleteSuffix,
  MAX_RECORD_BYTES,
  segmentName,
  segmentStarts,
} from '../../../src/store/spool-format.ts'

const KIND = fc.constantFrom('stdout' as const, 'stderr' as const, 'state' as const)

describe('a record', () => {
  it('is read as it was written', () => {
    const at = fc.date({ min: new Date(0), max: new Date('9999-12-31'), noInvalidDate: true })
    fc.assert(
      fc.property(KIND, at, fc.uint8Array({ maxLength: 50 }), (kind, written, content) => {
        const record = encodeRecord(kind, written, Buffer.from(content))
        expect(decodeHeader(record)).toEqual({ kind, at: written, length: content.length })
        expect(record.subarray(HEADER_BYTES)).toEqual(Buffer.from(content))
      }),
    )
  })

  it('is none where its header is cut off, of no known kind, or longer than any', () => {
    const record = encodeRecord('stdout', new Date(), Buffer.from('x'))
    for (let length = 0; length < HEADER_BYTES; length++) {
      expect(decodeHeader(record.subarray(0, length)), `cut to ${length}`).toBeUndefined()
    }
    expect(decodeHeader(Buffer.concat([Buffer.from([4]), record.subarray(1)]))).toBeUndefined()
    const long = Buffer.from(record)
    long.writeUInt32BE(MAX_RECORD_BYTES, 7)
    expect(decodeHeader(long)).toMatchObject({ length: MAX_RECORD_BYTES })
    long.writeUInt32BE(MAX_RECORD_BYTES + 1, 7)
    expect(decodeHeader(long)).toBeUndefined()
  })
})

describe('segments', () => {
  it('are named so that their order as text is their order', () => {
    expect(segmentName(0)).toBe('0000000000000000.seg')
    expect(segmentName(Number.MAX_SAFE_INTEGER)).toBe('9007199254740991.seg')
    expect(segmentStarts([segmentName(700), segmentName(0), segmentName(5_000_000_000)])).toEqual([
      0, 700, 5_000_000_000,
    ])
  })

  it('are found among other files', () => {
    expect(segmentStarts(['x', '7.seg', '0000000000000007.seg.tmp', '.0000000000000007.seg', segmentName(7)])).toEqual([
      7,
    ])
  })
})

describe('incompleteSuffix', () => {
  it('finds the part of a character at every cut', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 12 }), fc.nat(), (text, place) => {
        const bytes = Buffer.from(text)
        const cut = bytes.subarray(0, place % (bytes.length + 1))
        const whole = cut.subarray(0, cut.length - incompleteSuffix(cut)).toString('utf8')
        expect(Buffer.from(text).toString('utf8').startsWith(whole)).toBe(true)
        expect(Buffer.byteLength(whole) + incompleteSuffix(cut)).toBe(cut.length)
      }),
    )
  })

  it.each([
    ['nothing', [], 0],
    ['ASCII', [0x61], 0],
    ['a first byte of two', [0xc3], 1],
    ['a first byte of three', [0xe2], 1],
    ['two bytes of three', [0xe2, 0x82], 2],
    ['three bytes of three', [0xe2, 0x82, 0xac], 0],
    ['three bytes of four', [0xf0, 0x9f, 0xa6], 3],
    ['a continuation without a beginning', [0x61, 0x80], 0],
    ['nothing but continuations', [0x80, 0x80, 0x80, 0x80], 0],
  ])('of %s', (_, bytes, length) => {
    expect(incompleteSuffix(Buffer.from(bytes))).toBe(length)
  })

  it('holds at most 3 bytes back, whatever they are', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20 }), (bytes) => {
        expect(incompleteSuffix(Buffer.from(bytes))).toBeLessThanOrEqual(Math.min(3, bytes.length))
      }),
    )
  })
})
