import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MemorySize, parseMemorySize } from '../../../src/domain/memory-size.ts'

const MIB = 1024 ** 2
const GIB = 1024 ** 3

describe('parseMemorySize', () => {
  it.each([
    ['0b', 0],
    ['1b', 1],
    ['1k', 1024],
    ['1kb', 1024],
    ['512m', 512 * MIB],
    ['512MB', 512 * MIB],
    ['4g', 4 * GIB],
    ['4G', 4 * GIB],
    ['4Gb', 4 * GIB],
    ['1t', 1024 * GIB],
    ['1.5gb', 1.5 * GIB],
    ['0.5g', GIB / 2],
    ['007m', 7 * MIB],
  ])('reads %s as %i bytes', (text, bytes) => {
    expect(parseMemorySize(text)).toBe(bytes)
  })

  it('takes whole bytes only', () => {
    expect(parseMemorySize('1.9b')).toBe(1)
    expect(parseMemorySize('0.001k')).toBe(1)
  })

  it('is exact for every whole number of each unit', () => {
    const units = { b: 1, k: 1024, m: MIB, g: GIB, t: 1024 * GIB }
    fc.assert(
      fc.property(
        fc.nat(8000),
        fc.constantFrom(...Object.entries(units)),
        fc.boolean(),
        (count, [unit, factor], up) => {
          const text = `${count}${unit}`
          expect(parseMemorySize(up ? text.toUpperCase() : text)).toBe(count * factor)
        },
      ),
    )
  })

  it.each([
    '',
    ' ',
    '4',
    'g',
    '.5g',
    '4.g',
    '4..5g',
    '4,5g',
    '4 g',
    ' 4g',
    '4g ',
    '4g\n',
    '-4g',
    '+4g',
    '4e3m',
    '0x4g',
    '4gib',
    '4GiB',
    '4p',
    '4gg',
    '4kbb',
    '4bb',
    '4 gigabytes',
    'Infinityg',
    'NaNg',
    '٤g',
    `${'9'.repeat(16)}b`,
    '1.1234567g',
  ])('guesses at nothing for %j', (text) => {
    expect(parseMemorySize(text)).toBeUndefined()
  })
})

describe('MemorySize', () => {
  it.each(['8m', '8192k', '8388608b', '512m', '4g', '1.5gb', '1t', '1024G'])(
    'takes %s, and keeps it as it is',
    (text) => {
      expect(MemorySize.parse(text)).toBe(text)
    },
  )

  it.each(['0m', '7m', '7.999m', '8388607b', '1.001t', '1025g', '2t'])(
    'refuses %s: no such container is started',
    (text) => {
      expect(MemorySize.safeParse(text).error?.issues.map(({ message }) => message)).toEqual([
        'use a size from 8m to 1t',
      ])
    },
  )

  it.each(['4', '', 'lots', '4gib', '-1g'])('refuses %j once, and says what would do', (text) => {
    const messages = MemorySize.safeParse(text).error?.issues.map(({ message }) => message)
    expect(messages).toHaveLength(1)
    expect(messages?.[0]).toContain('"512m"')
  })

  it.each([4, 4294967296, null, true, ['4g'], {}])('refuses %j, which is no text', (value) => {
    expect(MemorySize.safeParse(value).success).toBe(false)
  })

  it('refuses a text that goes on and on', () => {
    expect(MemorySize.safeParse(`${'0'.repeat(40)}4g`).success).toBe(false)
  })
})
