import { describe, expect, it } from 'vitest'
import {
  AppError,
  EngineError,
  type EngineFault,
  ERROR_CODES,
  isEngineFault,
  messageOf,
  statusOf,
} from '../../src/errors.ts'

describe('statusOf', () => {
  it('is what the contract says of each code', () => {
    expect(Object.fromEntries(ERROR_CODES.map((code) => [code, statusOf(code)]))).toEqual({
      validation_failed: 400,
      unauthenticated: 401,
      forbidden: 403,
      policy_denied: 403,
      not_found: 404,
      request_timeout: 408,
      conflict: 409,
      body_too_large: 413,
      idempotency_key_reused: 422,
      gpu_unavailable: 422,
      image_not_found: 422,
      build_failed: 422,
      start_failed: 422,
      credentials_unavailable: 422,
      quota_exceeded: 429,
      queue_full: 429,
      rate_limited: 429,
      headers_too_large: 431,
      internal_error: 500,
      engine_error: 502,
      pull_failed: 502,
      relic_unreachable: 502,
      engine_unavailable: 503,
      draining: 503,
      overloaded: 503,
      disk_low: 503,
      store_unavailable: 503,
      audit_unavailable: 503,
      health_check_timeout: 504,
      relic_timeout: 504,
    })
  })
})

describe('AppError', () => {
  it('carries its code, its words, its details and its cause', () => {
    const cause = new Error('below')
    const error = new AppError('conflict', 'words', { cause, hint: 'do this', errors: [{ path: 'a', message: 'b' }] })
    expect(error).toMatchObject({ name: 'AppError', code: 'conflict', message: 'words', cause })
    expect(error.details).toMatchObject({ hint: 'do this', errors: [{ path: 'a', message: 'b' }] })
    expect(error).toBeInstanceOf(Error)
  })

  it('has no cause where there is none', () => {
    expect(new AppError('conflict', 'words')).not.toHaveProperty('cause')
    expect(new AppError('conflict', 'words').details).toEqual({})
  })
})

describe('AppError.with', () => {
  it('tells more of an error, and keeps what it is', () => {
    const cause = new Error('below')
    const error = new AppError('conflict', 'words', { hint: 'do this' }).with({ cause, instance: '/x' })
    expect(error).toMatchObject({
      code: 'conflict',
      message: 'words',
      cause,
      details: { hint: 'do this', instance: '/x' },
    })
  })

  it('keeps the rule of what policy denied', () => {
    const error = new AppError('policy_denied', 'no', { rule: 'image', hint: 'x' }).with({ hint: 'y' })
    expect(error).toMatchObject({ code: 'policy_denied', message: 'no', details: { rule: 'image', hint: 'y' } })
  })
})

describe('EngineError', () => {
  it.each([
    ['image_not_found', 'image_not_found'],
    ['pull_failed', 'pull_failed'],
    ['build_failed', 'build_failed'],
    ['start_failed', 'start_failed'],
    ['unavailable', 'engine_unavailable'],
    ['deadline', 'engine_unavailable'],
    ['not_found', 'engine_error'],
    ['conflict', 'engine_error'],
    ['invalid', 'engine_error'],
    ['subnet_overlap', 'engine_error'],
    ['protocol', 'engine_error'],
    ['failed', 'engine_error'],
  ] satisfies [EngineFault, string][])('tells callers the fault %s as %s', (fault, code) => {
    expect(new EngineError(fault, 'words')).toMatchObject({ name: 'EngineError', fault, code })
  })

  it('asks callers to come again where the engine is away, in a second unless told otherwise', () => {
    expect(new EngineError('unavailable', 'x').details.retryAfterSeconds).toBe(1)
    expect(new EngineError('deadline', 'x', { retryAfterSeconds: 9 }).details.retryAfterSeconds).toBe(9)
    expect(new EngineError('failed', 'x').details).not.toHaveProperty('retryAfterSeconds')
  })
})

describe('isEngineFault', () => {
  it('tells the faults that are named from all else', () => {
    const error = new EngineError('conflict', 'x')
    expect(isEngineFault(error, 'conflict')).toBe(true)
    expect(isEngineFault(error, 'not_found', 'conflict')).toBe(true)
    expect(isEngineFault(error, 'not_found')).toBe(false)
    expect(isEngineFault(error)).toBe(false)
    expect(isEngineFault(new AppError('conflict', 'x'), 'conflict')).toBe(false)
    expect(isEngineFault({ fault: 'conflict' }, 'conflict')).toBe(false)
    expect(isEngineFault(undefined, 'conflict')).toBe(false)
  })
})

describe('messageOf', () => {
  it('is the message of an error, or the thing as text', () => {
    expect(messageOf(new Error('words'))).toBe('words')
    expect([messageOf('text'), messageOf(undefined), messageOf(null), messageOf(7)]).toEqual([
      'text',
      'undefined',
      'null',
      '7',
    ])
  })
})
