import { describe, expect, it } from 'vitest'
import type { ContainerState } from '../../../src/engine/engine.ts'
import { AppError, EngineError } from '../../../src/errors.ts'
import {
  LOST,
  startFailure,
  startProblem,
  WorkerEnded,
  WorkerInterrupted,
  WorkerOverdue,
} from '../../../src/managers/worker-problem.ts'

const state = (exitCode: number, fields: Partial<ContainerState> = {}) =>
  ({ exitCode, oomKilled: false, error: '', ...fields }) as ContainerState

const problem = (error: unknown, { logs = '', restarts = 0 } = {}) => startProblem(error, 'w1', logs, restarts)
const failure = (error: unknown) => startFailure(problem(error), error)

describe('startProblem', () => {
  it('tells where the worker is, and its last lines where there are any', () => {
    for (const error of [new WorkerEnded('running', state(1)), new WorkerOverdue('ready', 5), new Error('x')]) {
      expect(problem(error, { logs: 'boom' }).details).toMatchObject({
        instance: '/containers/worker/w1',
        logsTail: 'boom',
        cause: error,
      })
      expect(problem(error).details).not.toHaveProperty('logsTail')
    }
  })

  it.each([
    ['running', /"w1" did not stay running: exit code 3$/],
    ['ready', /"w1" ended before its ready command succeeded: exit code 3$/],
  ] as const)('of one that ended while it waited to be %s is its exit code', (phase, message) => {
    expect(problem(new WorkerEnded(phase, state(3)))).toMatchObject({
      code: 'start_failed',
      message: expect.stringMatching(message),
      details: { phase, exitCode: 3, hint: expect.stringContaining('logs_tail') },
    })
  })

  it('tells how often it was started again', () => {
    const ended = new WorkerEnded('running', state(1))
    expect(problem(ended, { restarts: 1 }).message).toContain('exit code 1, once started again')
    expect(problem(ended, { restarts: 3 }).message).toContain('exit code 1, 3 times started again')
    expect(problem(ended).message).not.toContain('again')
  })

  it('of one that ended with 0 is still a failed start', () => {
    expect(problem(new WorkerEnded('ready', state(0)))).toMatchObject({
      code: 'start_failed',
      details: { exitCode: 0, hint: expect.stringContaining('as long as its command') },
    })
  })

  it.each([
    ['a lack of memory', state(137, { oomKilled: true }), 'memory'],
    ['a command that is not there', state(127), 'command'],
  ])('has the hint of %s', (_, ended, word) => {
    expect(problem(new WorkerEnded('running', ended)).details.hint).toContain(word)
  })

  it('of one whose container is gone is a conflict with whoever removed it', () => {
    const gone = problem(new WorkerEnded('ready', undefined))
    expect(gone).toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('removed'),
      details: { phase: 'ready' },
    })
    expect(gone.details).not.toHaveProperty('exitCode')
  })

  it('of one that did not get ready tells the last try, and what to do', () => {
    expect(problem(new WorkerOverdue('ready', 2.5, 7, 'no such file'))).toMatchObject({
      code: 'health_check_timeout',
      message: expect.stringMatching(/"w1" runs, .*within 2\.5 seconds; last exit code 7: no such file$/),
      details: { phase: 'ready', exitCode: 7, hint: expect.stringContaining('ready.command') },
    })
    expect(problem(new WorkerOverdue('ready', 2, 1)).message).toMatch(/last exit code 1$/)
  })

  it('of one that did not run in time knows no exit code', () => {
    const overdue = problem(new WorkerOverdue('running', 30))
    expect(overdue).toMatchObject({
      code: 'health_check_timeout',
      message: 'Worker "w1" was not running within 30 seconds',
      details: { phase: 'running' },
    })
    expect(overdue.details).not.toHaveProperty('exitCode')
    expect(overdue.details.hint).toBeUndefined()
  })

  it("keeps the engine's fault, and its hint", () => {
    const away = problem(new EngineError('unavailable', 'the engine is away', { hint: 'wait' }), { logs: 'x' })
    expect(away).toBeInstanceOf(EngineError)
    expect(away).toMatchObject({
      code: 'engine_unavailable',
      fault: 'unavailable',
      message: 'the engine is away',
      details: { hint: 'wait', retryAfterSeconds: 1, instance: '/containers/worker/w1', logsTail: 'x' },
    })
  })

  it('keeps the code and the words of a refusal', () => {
    expect(problem(new AppError('credentials_unavailable', 'no token', { hint: 'ask' }))).toMatchObject({
      code: 'credentials_unavailable',
      message: 'no token',
      details: { hint: 'ask', instance: '/containers/worker/w1' },
    })
    expect(problem(new WorkerInterrupted('stopped'))).toMatchObject({
      code: 'conflict',
      message: 'The worker was stopped while it started',
    })
  })

  it.each([new TypeError('x is undefined'), 'text', undefined])('tells nothing of its own faults: %j', (error) => {
    expect(problem(error)).toMatchObject({ code: 'internal_error', message: 'Worker "w1" could not be started' })
  })
})

describe('startFailure', () => {
  it.each([
    ['nonzero_exit', state(3)],
    ['oom_killed', state(137, { oomKilled: true })],
    ['killed', state(139)],
    ['start_failed', state(127)],
  ])('is %s where the process ended so', (code, ended) => {
    expect(failure(new WorkerEnded('running', ended))).toMatchObject({ code })
  })

  it('is a failed start where the process ended well, but too soon', () => {
    expect(failure(new WorkerEnded('ready', state(0)))).toMatchObject({
      code: 'start_failed',
      message: expect.stringContaining('exit code 0'),
    })
  })

  it('is cancelled where a caller ended it', () => {
    expect(failure(new WorkerInterrupted('removed'))).toEqual({
      code: 'cancelled',
      message: 'The worker was removed while it started',
      hint: null,
    })
  })

  it('is the time where it was not ready in time', () => {
    expect(failure(new WorkerOverdue('ready', 5))).toMatchObject({
      code: 'health_check_timeout',
      hint: expect.stringContaining('ready.command'),
    })
    expect(failure(new WorkerOverdue('running', 5))).toMatchObject({ code: 'health_check_timeout', hint: null })
  })

  it.each([
    ['image_not_found', new EngineError('image_not_found', 'x')],
    ['pull_failed', new EngineError('pull_failed', 'x')],
    ['start_failed', new EngineError('start_failed', 'executable file not found')],
    ['engine_unavailable', new EngineError('unavailable', 'x')],
    ['engine_unavailable', new EngineError('deadline', 'x')],
    ['engine_error', new EngineError('protocol', 'x')],
    ['start_failed', new AppError('credentials_unavailable', 'x')],
  ])('is %s where the start failed so', (code, error) => {
    expect(failure(error)).toMatchObject({ code, message: error.message })
  })

  it('has a hint, or null', () => {
    expect(failure(new EngineError('protocol', 'x', { hint: 'do' })).hint).toBe('do')
    expect(failure(new EngineError('protocol', 'x')).hint).toBeNull()
  })
})

describe('a container that was lost', () => {
  it('is told as such, and what to do', () => {
    expect(LOST).toMatchObject({ code: 'lost', hint: expect.stringContaining('workspace is kept') })
  })
})
