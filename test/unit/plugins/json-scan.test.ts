import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { faultOfJson } from '../../../src/plugins/json-scan.ts'

const LIMITS = { depth: 32, members: 50_000 }
const fault = (text: string, limits = LIMITS) => faultOfJson(text, limits)

describe('JSON is looked over before it is parsed', () => {
  it.each([
    ['{"a":1,"a":2}', 'twice'],
    ['{"a":1,"b":{"c":1,"c":1}}', 'twice'],
    ['{"a":1,"\\u0061":2}', 'twice'],
    ['{"":1,"":2}', 'twice'],
    ['[{"a":1},{"b":1,"b":1}]', 'twice'],
    ['{"__proto__":{"admin":true}}', '__proto__'],
    ['{"a":[{"\\u005f_proto__":1}]}', '__proto__'],
    ['{"constructor":{"prototype":{}}}', 'constructor.prototype'],
    ['{"a":{"constructor" : {"b":{},"prototype":1}}}', 'constructor.prototype'],
    ['{"constructor":{"\\u0070rototype":1}}', 'constructor.prototype'],
    [`${'['.repeat(33)}${']'.repeat(33)}`, 'nested'],
    [`${'{"a":'.repeat(33)}1${'}'.repeat(33)}`, 'nested'],
    ['['.repeat(1_000_000), 'nested'],
    [`[${'0,'.repeat(50_000)}0]`, 'more than 50000'],
    [`[${'[],'.repeat(25_000)}[]]`, 'more than 50000'],
  ])('refuses %.60s', (text, reason) => expect(fault(text)).toContain(reason))

  it.each([
    '{"a":1,"A":2}',
    '{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}',
    '{"a":"{\\"b\\":1,\\"b\\":2}"}',
    '["a","a",{"a":"a"}]',
    '{"a":"\\\\","b":"\\\\\\"a"}',
    '{"constructor":"x","prototype":"y"}',
    '{"constructor":[{"prototype":1}]}',
    '{"constructor":{"a":{"prototype":1}}}',
    '{"a":"__proto__","b":["__proto__"]}',
    `${'['.repeat(32)}${']'.repeat(32)}`,
    `[${'0,'.repeat(49_998)}0]`,
    '"text"',
    '12',
    '  [ ]  ',
  ])('has nothing against %.60s', (text) => expect(fault(text)).toBeUndefined())

  it('agrees with a reader that is slow and plain, whatever the JSON', () => {
    const small = { depth: 4, members: 12 }
    fc.assert(
      fc.property(trickyJson(), (text) => {
        JSON.parse(text)
        expect(fault(text, small) === undefined, text).toBe(isFine(text, small))
      }),
      { numRuns: 5_000 },
    )
  })

  it('refuses nothing that the parser takes and that says nothing twice', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), fc.nat(4), (text, indent) => {
        fc.pre(!text.includes('__proto__'))
        expect(fault(JSON.stringify(JSON.parse(text), null, indent))).toBeUndefined()
      }),
      { numRuns: 2_000 },
    )
  })

  it('ends on any text, and does not make JSON of what is none', () => {
    const noise = fc.string({ unit: fc.constantFrom(...'{}[]",:\\ u0a1é😀') })
    fc.assert(
      fc.property(noise, (text) => {
        expect(['string', 'undefined']).toContain(typeof fault(text))
      }),
      { numRuns: 5_000 },
    )
  })

  it.each(['\\\\', '\\"', 'a', '"x",'])(
    'goes over a mebibyte of %s in time that grows with its length alone',
    (unit) => {
      // A quadratic pass would take minutes, which the test does not have.
      fault(`["${unit.repeat(2 ** 20 / unit.length)}"]`)
    },
  )
})

/** JSON texts with few names, so that they repeat, in several spellings and with blanks wherever they may be. */
function trickyJson(): fc.Arbitrary<string> {
  const blank = fc.constantFrom('', '', ' ', '\n\t')
  const key = fc.constantFrom(
    '"a"',
    '"\\u0061"',
    '"b"',
    '""',
    '"constructor"',
    '"prototype"',
    '"__proto__"',
    '"\\""',
    '"{"',
  )
  const { value } = fc.letrec<{ value: string; object: string; array: string }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constantFrom('1', 'null', '"a"', '"\\\\"', '"a,b"', '"[[[[["', '{}', '[]', '-0.5e3'),
      tie('object'),
      tie('array'),
    ),
    object: fc
      .array(fc.tuple(blank, key, blank, tie('value'), blank), { maxLength: 4 })
      .map((members) => `{${members.map(([a, k, b, v, c]) => `${a}${k}${b}:${b}${v}${c}`).join(',')}}`),
    array: fc
      .array(fc.tuple(blank, tie('value'), blank), { maxLength: 4 })
      .map((elements) => `[${elements.map((parts) => parts.join('')).join(',')}]`),
  }))
  return value
}

/** The same question, asked of the parser's own idea of the text: each object with all its keys, twice or not. */
function isFine(text: string, limits: typeof LIMITS): boolean {
  const tokens = text.match(/"(?:\\.|[^"\\])*"|[{}[\],:]|[^\s"{}[\],:]+/g) ?? []
  let at = 0
  let members = 0
  let fine = true
  const value = (depth: number, name?: string): void => {
    const token = tokens[at++]
    if (token !== '{' && token !== '[') return
    if (depth > limits.depth) fine = false
    const closing = token === '{' ? '}' : ']'
    const names: string[] = []
    let count = 0
    while (tokens[at] !== closing) {
      if (tokens[at] === ',') at++
      let own: string | undefined
      if (token === '{') {
        own = JSON.parse(tokens[at] ?? '') as string
        at += 2
        if (names.includes(own) || own === '__proto__' || (own === 'prototype' && name === 'constructor')) fine = false
        names.push(own)
      }
      count++
      value(depth + 1, own)
    }
    at++
    members += Math.max(1, count)
  }
  value(1)
  return fine && members <= limits.members
}
