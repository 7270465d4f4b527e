import { describe, expect, it } from 'vitest'
import { type ExitCodeMap, exitMeaning } from '../../../src/policy/exit-codes.ts'

const ended = (exitCode: number, given: ExitCodeMap = {}) => exitMeaning({ exitCode, oomKilled: false }, given)

describe('exitMeaning', () => {
  it.each([
    [0, 'done', 'complete'],
    [1, 'error', 'restart'],
    [2, 'restart', 'restart'],
    [3, 'blocked', 'fail'],
    [4, 'failed', 'restart'],
    [124, 'failed', 'restart'],
    [125, 'not started', 'fail'],
    [126, 'not started', 'fail'],
    [127, 'not started', 'fail'],
    [128, 'failed', 'restart'],
    [129, 'killed', 'restart'],
    [130, 'stopped', 'stop'],
    [137, 'killed', 'restart'],
    [139, 'killed', 'restart'],
    [143, 'stopped', 'stop'],
    [192, 'killed', 'restart'],
    [193, 'failed', 'restart'],
    [255, 'failed', 'restart'],
  ])('takes %i for "%s", and would %s', (code, meaning, action) => {
    expect(ended(code)).toEqual({ meaning, action })
  })

  it('follows the map of the request, for any code, and keeps the defaults of the others', () => {
    const given: ExitCodeMap = {
      0: { meaning: 'again', action: 'restart' },
      42: { meaning: 'no quota left', action: 'stop' },
      127: { meaning: 'wait for the image', action: 'restart' },
      139: { meaning: 'crashed', action: 'fail' },
    }
    expect(ended(0, given)).toEqual({ meaning: 'again', action: 'restart' })
    expect(ended(42, given)).toEqual({ meaning: 'no quota left', action: 'stop' })
    expect(ended(127, given)).toEqual({ meaning: 'wait for the image', action: 'restart' })
    expect(ended(139, given)).toEqual({ meaning: 'crashed', action: 'fail' })
    expect(ended(3, given)).toEqual({ meaning: 'blocked', action: 'fail' })
  })

  it('tells a lack of memory by the flag of the engine, whatever the code', () => {
    for (const exitCode of [137, 1, 0, 143]) {
      expect(exitMeaning({ exitCode, oomKilled: true }, {})).toEqual({ meaning: 'out of memory', action: 'restart' })
    }
  })

  it('never takes 137 alone for a lack of memory', () => {
    const given: ExitCodeMap = { 137: { meaning: 'too large a task', action: 'fail' } }
    expect(ended(137, given)).toEqual({ meaning: 'killed', action: 'restart' })
    expect(exitMeaning({ exitCode: 137, oomKilled: true }, given)).toEqual({
      meaning: 'too large a task',
      action: 'fail',
    })
    // The worker lived on after one of its processes was killed: still the flag counts.
    expect(exitMeaning({ exitCode: 1, oomKilled: true }, given)).toEqual({
      meaning: 'too large a task',
      action: 'fail',
    })
  })
})
