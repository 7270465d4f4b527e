import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { resultOf } from '../../../src/managers/result.ts'

const NONE = { result: null, result_source: null }
const of = (stdout: string, fields: { file?: string; truncated?: boolean } = {}) =>
  resultOf({ stdout, truncated: false, ...fields })

describe('resultOf', () => {
  it('takes the result file before stdout', () => {
    expect(of('{"from":"stdout"}', { file: '{"from":"file"}\n' })).toEqual({
      result: { from: 'file' },
      result_source: 'file',
    })
  })

  it.each(['', '  \n', '{"cut":', 'text'])('passes over a result file that holds "%s"', (file) => {
    expect(of('{"a":1}', { file })).toEqual({ result: { a: 1 }, result_source: 'stdout' })
    expect(of('', { file })).toEqual(NONE)
  })

  it('keeps a null that the file gives apart from no result', () => {
    expect(of('', { file: 'null' })).toEqual({ result: null, result_source: 'file' })
  })

  it('takes all of stdout where it is JSON of any kind', () => {
    fc.assert(
      fc.property(
        fc.jsonValue(),
        fc.constantFrom('', '\n', ' \r\n\n'),
        fc.constantFrom(undefined, 2),
        (value, end, indent) => {
          const text = JSON.stringify(value, null, indent)
          expect(of(text + end)).toEqual({ result: JSON.parse(text), result_source: 'stdout' })
        },
      ),
    )
  })

  it.each([
    ['log\n{"a":1}\n', { a: 1 }],
    ['log\n[1,2]', [1, 2]],
    ['log\r\n  {"a":1}  \r\n\n\n', { a: 1 }],
    ['{"first":1}\n{"last":2}\n', { last: 2 }],
  ])('takes the last line that is not empty where it is an object or a list: %j', (stdout, result) => {
    expect(of(stdout)).toEqual({ result, result_source: 'stdout_last_line' })
  })

  it.each([
    '',
    '\n',
    'plain',
    'log\n42',
    'log\n"text"',
    'log\ntrue',
    'log\nnull',
    '{"a":1}\nbye',
    'log\n{cut',
    'log\n[1,',
  ])('gives none for %j', (stdout) => {
    expect(of(stdout)).toEqual(NONE)
  })

  it('never takes cut output for all of it, and still reads its last line', () => {
    expect(of('42', { truncated: true })).toEqual(NONE)
    expect(of('{\n"a": 1\n}', { truncated: true })).toEqual(NONE)
    expect(of('head\n[... 5 bytes omitted ...]\ntail\n{"a":1}\n', { truncated: true })).toEqual({
      result: { a: 1 },
      result_source: 'stdout_last_line',
    })
  })

  it('gives a result no other prototype', () => {
    const { result } = of('{"__proto__":{"polluted":true}}')
    expect(Object.getPrototypeOf(result)).toBe(Object.prototype)
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
  })
})
