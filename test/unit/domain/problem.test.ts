import { describe, expect, it } from 'vitest'
import { PROBLEM_CONTENT_TYPE, Problem, problems } from '../../../src/domain/problem.ts'

describe('problems', () => {
  it('describes each status by its common name', () => {
    const content = { [PROBLEM_CONTENT_TYPE]: { schema: Problem } }
    expect(problems(404, 503)).toEqual({
      404: { description: 'Not Found', content },
      503: { description: 'Service Unavailable', content },
    })
    expect(problems(599)[599].description).toBe('Error')
  })
})

describe('Problem', () => {
  const least = {
    type: 'about:blank',
    title: 'Not Found',
    status: 404,
    detail: 'x',
    code: 'not_found',
    request_id: 'r',
  }

  it('takes the codes of the contract and no other', () => {
    expect(Problem.safeParse(least).success).toBe(true)
    expect(Problem.safeParse({ ...least, code: 'oops' }).success).toBe(false)
  })
})
