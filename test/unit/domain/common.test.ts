import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  ContainerPath,
  CustomLabels,
  Environment,
  InputFiles,
  imageSource,
  Name,
  queryBoolean,
  queryInteger,
  Timestamp,
  timestamp,
} from '../../../src/domain/common.ts'

const accepts = (schema: { safeParse(value: unknown): { success: boolean } }, value: unknown) =>
  schema.safeParse(value).success

describe('Name', () => {
  it.each(['a', 'A1', '0', 'a_b.c-d', 'x'.repeat(63)])('takes "%s"', (name) => {
    expect(accepts(Name, name)).toBe(true)
  })

  it.each(['', '-a', '.a', '_a', 'a b', 'a/b', '..', 'ä', 'a\n', 'a\0', 'x'.repeat(64), '__proto__'])(
    'refuses %j',
    (name) => {
      expect(accepts(Name, name)).toBe(false)
    },
  )
})

describe('an image reference', () => {
  const digest = `sha256:${'a'.repeat(64)}`

  it.each([
    'alpine',
    'python:3.13-slim',
    'library/python',
    'registry.example.com:5000/team/app:1.0_x',
    `python@${digest}`,
    `registry.example.com/a/b:tag@${digest}`,
    digest,
    'localhost:5000/app',
  ])('takes %s', (reference) => {
    expect(accepts(imageSource.image, reference)).toBe(true)
  })

  it.each([
    '',
    '-x',
    '/etc/passwd',
    '../x',
    'a/../b',
    'a//b',
    'a:',
    'a:b:c:d',
    'a b',
    'a\n',
    'a?fromSrc=http://x',
    'a#b',
    'http://x/y',
    'a@sha256:short',
    `a:${'t'.repeat(129)}`,
    'a'.repeat(513),
    'a%2F..%2Fb',
  ])('refuses %j', (reference) => {
    expect(accepts(imageSource.image, reference)).toBe(false)
  })

  // The engine answers "repository name must be lowercase", which would reach the caller as a 5xx.
  it.each(['Alpine', 'library/Python:3', 'alpine-', 'a..b'])('refuses %s, as the engine would', (reference) => {
    expect(accepts(imageSource.image, reference)).toBe(false)
  })
})

describe('ContainerPath', () => {
  it.each(['/', '/a', '/a/b.c', '/a//b', '/größe', '/a/', '/...', '/..a'])('takes %s', (path) => {
    expect(accepts(ContainerPath, path)).toBe(true)
  })

  it.each(['', 'a', './a', '/..', '/a/../b', '/a/.', '/a\0b', 'C:\\x', `/${'x'.repeat(1024)}`])(
    'refuses %j',
    (path) => {
      expect(accepts(ContainerPath, path)).toBe(false)
    },
  )
})

describe('Environment', () => {
  it('passes values as they are', () => {
    const given = { A: '', _b1: ' x\n"', PATH: '/bin:/usr/bin' }
    expect(Environment.parse(given)).toEqual(given)
  })

  it.each([
    { '': 'x' },
    { '1A': 'x' },
    { 'A-B': 'x' },
    { 'A=B': 'x' },
    { 'A B': 'x' },
    { A: 'x\0' },
    { A: 7 },
    { A: null },
  ])('refuses %j', (given) => {
    expect(accepts(Environment, given)).toBe(false)
  })

  it('takes 64 KiB with names and terminators, in bytes, and not one more', () => {
    const room = 64 * 1024 - 'A'.length - 2
    expect(accepts(Environment, { A: 'x'.repeat(room) })).toBe(true)
    expect(accepts(Environment, { A: 'x'.repeat(room + 1) })).toBe(false)
    expect(accepts(Environment, { A: '€'.repeat(room / 2) })).toBe(false)
  })
})

describe('CustomLabels', () => {
  it('are at most 64, of bounded length', () => {
    const labels = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`l${index}`, 'x']))
    expect(accepts(CustomLabels, labels(64))).toBe(true)
    expect(accepts(CustomLabels, labels(65))).toBe(false)
    expect(accepts(CustomLabels, { ['n'.repeat(129)]: '' })).toBe(false)
    expect(accepts(CustomLabels, { n: 'v'.repeat(1025) })).toBe(false)
    expect(accepts(CustomLabels, { '': 'x' })).toBe(false)
    expect(accepts(CustomLabels, { n: 7 })).toBe(false)
  })
})

describe('InputFiles', () => {
  it('are text or base64, by a path that leads nowhere else', () => {
    expect(accepts(InputFiles, { 'a/b.txt': 'text', '/work/c': { base64: 'AAH/' }, d: { base64: '' } })).toBe(true)
    for (const path of ['', '..', '../a', 'a/../b', './a', 'a/', 'a\0']) {
      expect(accepts(InputFiles, { [path]: 'x' }), JSON.stringify(path)).toBe(false)
    }
    expect(accepts(InputFiles, { a: { base64: 'not base64' } })).toBe(false)
    expect(accepts(InputFiles, { a: 7 })).toBe(false)
  })
})

describe('a query', () => {
  it('reads whole numbers within their bounds, and nothing else', () => {
    const limit = queryInteger({ min: 1, max: 1000 })
    expect([limit.parse('1'), limit.parse('1000'), limit.parse('007')]).toEqual([1, 1000, 7])
    for (const text of ['0', '1001', '', ' 1', '1.0', '+1', '-1', '0x10', '1e2', 'NaN', '9'.repeat(30), '١']) {
      expect(accepts(limit, text), text).toBe(false)
    }
    fc.assert(
      fc.property(fc.string(), (text) => {
        const parsed = limit.safeParse(text)
        if (parsed.success) expect(String(parsed.data)).toBe(text.replace(/^0+/, ''))
      }),
    )
  })

  it('reads true and false, and nothing else', () => {
    expect([queryBoolean.parse('true'), queryBoolean.parse('false')]).toEqual([true, false])
    for (const text of ['', '1', '0', 'yes', 'TRUE', ' true']) expect(accepts(queryBoolean, text), text).toBe(false)
  })
})

describe('timestamp', () => {
  it('is RFC 3339 in UTC with milliseconds', () => {
    expect(timestamp(new Date('2026-11-21T05:05:06.7+01:00'))).toBe('2026-11-21T04:05:06.700Z')
    expect(accepts(Timestamp, timestamp())).toBe(true)
    for (const other of [
      '2026-11-21T04:05:06Z',
      '2026-11-21T04:05:06.789+01:00',
      '2026-11-21',
      '2026-13-01T00:00:00.000Z',
    ]) {
      expect(accepts(Timestamp, other), other).toBe(false)
    }
  })
})
