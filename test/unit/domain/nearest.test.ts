import { describe, expect, it } from 'vitest'
import { nearest } from '../../../src/domain/nearest.ts'

describe('nearest', () => {
  it.each([
    ['CO_PROT', 'CO_PORT'],
    ['CO_HOTS', 'CO_HOST'],
    ['CO_KEY_FILE', 'CO_KEYS_FILE'],
    ['CO_KEYS_FILES', 'CO_KEYS_FILE'],
    ['CO_PORT', 'CO_PORT'],
    ['', 'CO_HOST'],
  ])('of %j is %j', (word, expected) => {
    expect(nearest(word, ['CO_HOST', 'CO_KEYS_FILE', 'CO_PORT'])).toBe(expected)
  })

  it('is nothing among nothing', () => expect(nearest('a', [])).toBeUndefined())
})
