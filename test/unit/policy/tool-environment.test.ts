import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toolEnvironment } from '../../../src/policy/tool-environment.ts'
import { toolRequest } from '../support/requests.ts'
import { thrown } from '../support/streams.ts'

const environmentOf = (fields: object) => toolEnvironment(toolRequest(fields), 'exec_1')
const refusalOf = (fields: object) => thrown(() => environmentOf(fields))

describe('toolEnvironment', () => {
  it('tells a tool who and where it is', () => {
    expect(environmentOf({})).toEqual({
      TOOL_PARAMETERS: '{}',
      TOOL_NAME: 'sum',
      SESSION_ID: 's1',
      EXECUTION_ID: 'exec_1',
    })
  })

  it('gives strings as they are and all else as JSON', () => {
    const parameters = { text: 'a "b"\n', count: 2, flag: false, none: null, list: [1, 'x'], map: { a: { b: 1 } } }
    expect(environmentOf({ parameters })).toMatchObject({
      PARAM_TEXT: 'a "b"\n',
      PARAM_COUNT: '2',
      PARAM_FLAG: 'false',
      PARAM_NONE: 'null',
      PARAM_LIST: '[1,"x"]',
      PARAM_MAP: '{"a":{"b":1}}',
      TOOL_PARAMETERS: JSON.stringify(parameters),
    })
  })

  it.each([
    ['input-file', 'PARAM_INPUT_FILE'],
    ['a.b c', 'PARAM_A_B_C'],
    ['größe', 'PARAM_GR_SSE'],
    ['1st', 'PARAM_1ST'],
    ['_x', 'PARAM__X'],
    ['=', 'PARAM__'],
    ['A\nLD_PRELOAD=x', 'PARAM_A_LD_PRELOAD_X'],
  ])('names the parameter "%s" %s', (name, variable) => {
    expect(environmentOf({ parameters: { [name]: 'v' } })).toHaveProperty([variable], 'v')
  })

  it('makes every parameter a variable that a shell can name, and all of them readable again', () => {
    const parameters = fc.dictionary(fc.string({ unit: 'binary', minLength: 1, maxLength: 8 }), fc.jsonValue(), {
      maxKeys: 3,
      noNullPrototype: true,
    })
    fc.assert(
      fc.property(parameters, (given) => {
        fc.pre(!Object.hasOwn(given, '__proto__'))
        let environment: Record<string, string>
        try {
          environment = environmentOf({ parameters: given })
        } catch (error) {
          expect(error).toMatchObject({ code: 'validation_failed' })
          return
        }
        for (const name of Object.keys(environment)) expect(name).toMatch(/^[A-Z_][A-Z0-9_]*$/)
        expect(JSON.parse(environment['TOOL_PARAMETERS'] ?? '')).toEqual(JSON.parse(JSON.stringify(given)))
      }),
    )
  })

  it("passes the caller's variables as given", () => {
    const environment = { PATH: '/x', lower: ' spaces ', EMPTY: '', LINES: 'a\nb', PARAMETER: 'not reserved' }
    expect(environmentOf({ environment })).toMatchObject(environment)
  })

  it.each(['TOOL_PARAMETERS', 'TOOL_NAME', 'SESSION_ID', 'EXECUTION_ID', 'PARAM_X', 'PARAM_'])(
    'refuses %s among the variables',
    (name) => {
      expect(refusalOf({ environment: { [name]: 'x' } })).toMatchObject({
        code: 'validation_failed',
        message: `environment.${name}: ${name} is set by the service; use parameters instead`,
        details: { errors: [{ path: `environment.${name}` }] },
      })
    },
  )

  it('refuses two parameters that fold into one variable, and names both', () => {
    const error = refusalOf({ parameters: { 'a-b': 1, A_B: 2 } })
    expect(error).toMatchObject({ code: 'validation_failed', details: { errors: [{ path: 'parameters.A_B' }] } })
    expect((error as Error).message).toMatch(/"a-b".*"A_B".*PARAM_A_B/)
  })

  it('refuses a NUL in a string, which no variable can hold, and keeps one that JSON escapes', () => {
    expect(refusalOf({ parameters: { a: 'x\0y' } })).toMatchObject({
      code: 'validation_failed',
      details: { errors: [{ path: 'parameters.a', message: 'NUL is not allowed' }] },
    })
    expect(environmentOf({ parameters: { a: ['x\0y'] } })).toMatchObject({ PARAM_A: '["x\\u0000y"]' })
  })

  it('takes the largest variable that Linux passes, and refuses a byte more', () => {
    // Name, "=", value and a NUL are at most 128 KiB. TOOL_PARAMETERS holds the same value in JSON.
    const room = 128 * 1024 - 1 - 'TOOL_PARAMETERS='.length - '{"a":""}'.length
    expect(environmentOf({ parameters: { a: 'x'.repeat(room) } })['PARAM_A']).toHaveLength(room)
    expect(refusalOf({ parameters: { a: 'x'.repeat(room + 1) } })).toMatchObject({
      code: 'validation_failed',
      details: { errors: [{ path: 'parameters' }] },
    })
  })

  it('counts bytes, not characters, and names the parameter that is too large', () => {
    expect(refusalOf({ parameters: { small: 1, large: '€'.repeat(44_000) } })).toMatchObject({
      message: expect.stringMatching(/^parameters\.large: PARAM_LARGE would take more than 128 KiB; use input_files/),
      details: { errors: [{ path: 'parameters.large' }] },
    })
  })
})
