import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isAllowedImage, requireAllowedImage } from '../../../src/policy/images.ts'
import { thrown } from '../support/streams.ts'

describe('isAllowedImage', () => {
  it.each([
    ['python:3.13', ['*'], true],
    ['python:3.13', ['python:3.13'], true],
    ['python:3.13', ['python:*'], true],
    ['registry.example.com/team/app:1', ['registry.example.com/team/*'], true],
    ['registry.example.com/team/app:1', ['alpine', '*/team/*:1'], true],
    ['python:3.13', [], false],
    ['python:3.13', ['python'], false],
    ['evil/python:3.13', ['python:*'], false],
    ['python:3.13-evil', ['python:3.13'], false],
    ['pythonx3.13', ['python.3.13'], false],
    ['registryXexample.com/a', ['registry.example.com/*'], false],
    ['aaa', ['a+'], false],
    ['b', ['[ab]'], false],
    ['Python:3', ['python:3'], false],
    ['', ['a'], false],
  ])('%s with %j: %s', (reference, patterns, allowed) => {
    expect(isAllowedImage(reference, patterns)).toBe(allowed)
  })

  it('takes every character but the star as itself', () => {
    const text = fc.string({ unit: fc.constantFrom(...'ab.+?^', ...'$', ...'{}()|[]\\/:@-'), maxLength: 12 })
    fc.assert(
      fc.property(text, text, (pattern, reference) => {
        expect(isAllowedImage(reference, [pattern])).toBe(reference === pattern)
        expect(isAllowedImage(`${pattern}${reference}`, [`${pattern}*`])).toBe(true)
      }),
    )
  })
})

describe('requireAllowedImage', () => {
  it('names the image and where the list is', () => {
    const error = thrown(() => requireAllowedImage('evil/image', ['python:*']))
    expect(error).toMatchObject({
      code: 'policy_denied',
      details: { hint: expect.stringContaining('CO_ALLOWED_IMAGES') },
    })
    expect((error as Error).message).toContain('"evil/image"')
  })

  it('passes what is allowed', () => {
    expect(requireAllowedImage('python:3.13', ['python:*'])).toBeUndefined()
  })
})
