import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { engineReference, isAllowedImage, isImagePattern, requireAllowedImage } from '../../../src/policy/images.ts'
import { thrown } from '../support/streams.ts'

const HEX = 'ab12'.repeat(16)
const DIGEST = `sha256:${HEX}`
const OTHER_DIGEST = `sha256:${'cd34'.repeat(16)}`

describe('isAllowedImage', () => {
  it.each([
    ['everything', 'python:3.13', '*', true],
    ['everything, an id', DIGEST, '*', true],
    ['everything, what may be a short id', 'cafe', '*', true],
    ['the same reference', 'python:3.13', 'python:3.13', true],
    ['another tag', 'python:3.12', 'python:3.13', false],
    ['a longer tag', 'python:3.13-evil', 'python:3.13', false],
    ['a tag that begins so', 'python:3.13-slim', 'python:3.13*', true],
    ['a tag that ends so', 'python:3.13-slim', 'python:*-slim', true],
    ['a tag that does not end so', 'python:3.13-slim-evil', 'python:*-slim', false],
    ['every tag', 'python:3.13', 'python:*', true],
    ['every tag, of one without', 'python', 'python:*', true],
    ['every tag, of a digest', `python@${DIGEST}`, 'python:*', true],
    ['no tag is latest', 'python', 'python', true],
    ['no tag is latest, written out', 'python:latest', 'python', true],
    ['no tag is latest in a reference too', 'python', 'python:latest', true],
    ['no tag is no other tag', 'python:3.13', 'python', false],
    ['a dot is a dot', 'pythonx3', 'python.3', false],
    ['names are lower-case', 'Python:3', 'python:3', false],

    ['a registry that is called like the name', 'python:5000/evil', 'python:*', false],
    ['a registry that is called like the name, with a tag', 'python:5000/evil:3', 'python:*', false],
    ['a registry in place of a part', 'evil.example.com/app:1', '*/app:1', false],
    ['a host in front', 'evil.example.com/python:3', 'python:*', false],
    ['a folder in front', 'evil/python:3.13', 'python:*', false],
    ['localhost in front', 'localhost/python:3', 'python:3', false],
    ['localhost is a registry', 'localhost/python:3', 'localhost/python:*', true],
    ['localhost is a registry and no team', 'localhost/python:3', 'docker.io/localhost/python:3', false],
    ['localhost is not the default registry', 'localhost/evil:1', 'docker.io/**', false],
    ['localhost alone is a name', 'localhost:3', 'docker.io/library/localhost:3', true],

    ['the default registry, written out', 'docker.io/library/python:3', 'python:3', true],
    ['the default registry in a pattern', 'python:3', 'docker.io/library/python:3', true],
    ['its other name', 'index.docker.io/library/python:3', 'python:3', true],
    ['the default registry without library', 'docker.io/python:3', 'python:3', true],
    ['the library without a registry', 'library/python:3', 'python:3', true],
    ['a team of the default registry', 'docker.io/team/app:1', 'team/app:1', true],
    ['a team is not the library', 'team/python:3', 'python:3', false],

    ['a port', 'registry.example.com:5000/app:1', 'registry.example.com:5000/app:*', true],
    ['another port', 'registry.example.com:5001/app:1', 'registry.example.com:5000/app:*', false],
    ['a port where the pattern has none', 'registry.example.com:5000/app:1', 'registry.example.com/app:*', false],
    ['any port', 'registry.example.com:5001/app:1', 'registry.example.com:*/app:*', true],
    ['a part of a registry', 'eu.example.com/app:1', '*.example.com/app:1', true],
    ['another registry', 'eu.example.com.evil.org/app:1', '*.example.com/app:1', false],
    ['dots are dots in registries', 'registryXexample.com/app:1', 'registry.example.com/*', false],

    ['a star is within its part', 'registry.example.com/team/app:1', 'registry.example.com/*', false],
    ['a name that ends in a star has every tag', 'registry.example.com/app:1', 'registry.example.com/*', true],
    [
      'a name that ends in a star has every digest',
      `registry.example.com/app@${DIGEST}`,
      'registry.example.com/*',
      true,
    ],
    ['a name with a star inside has one tag', 'team-a/app:1', 'team-*/app', false],
    ['a name with a star inside', 'team-a/app', 'team-*/app', true],
    ['a star with a tag of its own', 'team/app:2', 'team/*:1', false],
    ['a star is at least the part', 'team', 'team/*', false],
    ['a star is a part that is there', 'team:1', 'library/team/*', false],
    ['a name that begins with a star has one tag', 'team/my-app:1', 'team/*-app', false],
    ['a name that begins with a star', 'team/my-app', 'team/*-app', true],
    ['a name that ends in a star and begins otherwise', 'team/app-one:1', 'team/app-*', true],
    ['more parts than the pattern', 'team/app/x:1', 'team/app:*', false],
    ['fewer parts than the pattern', 'team:1', 'team/app:*', false],
    ['two stars are any parts', 'registry.example.com/a/b/c:1', 'registry.example.com/**', true],
    ['two stars are no part too', 'registry.example.com/app:1', 'registry.example.com/**/app:1', true],
    ['two stars in the middle', 'registry.example.com/a/b/app:1', 'registry.example.com/**/app:1', true],
    ['two stars and then another', 'registry.example.com/a/b/evil:1', 'registry.example.com/**/app:1', false],
    ['two stars of another registry', 'evil.example.com/a/b:1', 'registry.example.com/**', false],
    ['two stars are the registry too', 'registry.example.com/team/app:1', '**/team/app:*', true],
    ['two stars are the default one', 'team/app:1', '**/team/app:*', true],
    ['two stars and another tag', 'registry.example.com/a/b:2', '**:1', false],
    ['two stars of the default registry', 'a/b/c:1', 'docker.io/**', true],
    ['two stars of the default registry alone', 'evil.example.com/a:1', 'docker.io/**', false],

    ['a digest', `python@${DIGEST}`, `python@${DIGEST}`, true],
    ['another digest', `python@${OTHER_DIGEST}`, `python@${DIGEST}`, false],
    ['any digest', `python@${DIGEST}`, 'python@*', true],
    ['any digest is no tag', 'python:3', 'python@*', false],
    ['a digest under a tag that is allowed', `python:3@${DIGEST}`, 'python:3', false],
    ['a digest where latest is allowed', `python@${DIGEST}`, 'python', false],
    ['a digest decides, whatever the tag', `python:2@${DIGEST}`, `python:3@${DIGEST}`, true],
    ['a digest of another name', `evil@${DIGEST}`, `python@${DIGEST}`, false],

    ['an id', DIGEST, DIGEST, true],
    ['another id', OTHER_DIGEST, DIGEST, false],
    ['ids that begin so', DIGEST, 'sha256:ab12*', true],
    ['ids of another beginning', OTHER_DIGEST, 'sha256:ab12*', false],
    ['an id is no name', DIGEST, '**', false],
    ['an id is no name with a tag', DIGEST, 'sha256:*', true],
    ['a name like the beginning of an id, with a tag', 'sha256:beta', 'library/sha256:*', true],
    ['a name is no id', `python@${DIGEST}`, DIGEST, false],
    ['a short id is no name', 'cafe', 'cafe', false],
    ['a short id is no name of the library', 'ab12ab12ab12', 'docker.io/library/*', false],
    ['a whole id without its prefix', HEX, DIGEST, false],
    ['a name like an id, with its tag', 'cafe:latest', 'cafe', true],
    ['an empty reference', '', 'a', false],
  ])('%s', (_, reference, pattern, allowed) => {
    expect(isAllowedImage(reference, [pattern])).toBe(allowed)
  })

  it('allows what one of several patterns does, and nothing by none', () => {
    expect(isAllowedImage('python:3', ['alpine', 'python:*'])).toBe(true)
    expect(isAllowedImage('ruby:3', ['alpine', 'python:*'])).toBe(false)
    expect(isAllowedImage('python:3', [])).toBe(false)
  })

  it('takes every character but the star as itself', () => {
    const text = fc.string({ unit: fc.constantFrom(...'xy.+?^', ...'$', ...'{}()|[]\\-'), minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(text, text, (pattern, tag) => {
        expect(isAllowedImage(`name:${tag}`, [`name:${pattern}`])).toBe(tag === pattern)
        expect(isAllowedImage(`name:${pattern}${tag}`, [`name:${pattern}*`])).toBe(true)
      }),
    )
  })
})

describe('isImagePattern', () => {
  it.each(['*', '**', 'python', 'python:3.*', 'registry.example.com:5000/a/**', `a@${DIGEST}`, 'a_b-c'])(
    '%s',
    (text) => {
      expect(isImagePattern(text)).toBe(true)
    },
  )

  it.each(['', 'a b', 'python:3?', 'a,b', ' python', 'python ', 'a\nb', 'x'.repeat(513)])('not %j', (text) => {
    expect(isImagePattern(text)).toBe(false)
  })
})

describe('requireAllowedImage', () => {
  it('names the image, the rule and where the lists are', () => {
    const error = thrown(() => requireAllowedImage('evil/image', [['python:*']]))
    expect(error).toMatchObject({
      code: 'policy_denied',
      details: { rule: 'image', hint: expect.stringMatching(/CO_ALLOWED_IMAGES.*profile.*caller/) },
    })
    expect((error as Error).message).toContain('"evil/image"')
  })

  it('tells how to name an image that is called like an id', () => {
    expect(thrown(() => requireAllowedImage('cafe', [['cafe']]))).toMatchObject({
      details: { rule: 'image', hint: expect.stringContaining(':latest') },
    })
    expect(thrown(() => requireAllowedImage('cafex', [['x']]))).toMatchObject({
      details: { hint: expect.not.stringContaining(':latest') },
    })
    expect(thrown(() => requireAllowedImage('xcafe', [['x']]))).toMatchObject({
      details: { hint: expect.not.stringContaining(':latest') },
    })
  })

  it('passes what every list allows, and only that', () => {
    expect(requireAllowedImage('python:3.13', [['python:*'], ['*']])).toBeUndefined()
    expect(requireAllowedImage('python:3.13', [])).toBeUndefined()
    expect(thrown(() => requireAllowedImage('python:3.13', [['*'], []]))).toMatchObject({ details: { rule: 'image' } })
  })
})

describe('engineReference', () => {
  it.each([
    ['python', 'python:latest'],
    ['python:3', 'python:3'],
    ['team/python', 'team/python:latest'],
    ['registry.example.com:5000/app', 'registry.example.com:5000/app:latest'],
    [`python@${DIGEST}`, `python@${DIGEST}`],
    [DIGEST, DIGEST],
    ['cafe', 'cafe'],
    ['cafe/cafe', 'cafe/cafe:latest'],
    ['xcafe', 'xcafe:latest'],
    ['cafex', 'cafex:latest'],
  ])('of %s is %s', (reference, expected) => {
    expect(engineReference(reference)).toBe(expected)
  })
})
