import { describe, expect, it } from 'vitest'
import { AppError, EngineError, type EngineFault } from '../../../src/errors.ts'
import { endedByEngine, failureOf, outcomeOf, outcomeOfError } from '../../../src/managers/outcome.ts'

const ended = (exitCode: number, fields: { oomKilled?: boolean; error?: string } = {}) => ({
  exitCode,
  oomKilled: false,
  error: '',
  ...fields,
})

describe('outcomeOf', () => {
  it('tells exit code 0 as completed, without a failure', () => {
    expect(outcomeOf(ended(0))).toEqual({ status: 'completed', exitCode: 0, failure: null })
  })

  it('tells any other exit code as failed', () => {
    expect(outcomeOf(ended(3))).toEqual({
      status: 'failed',
      exitCode: 3,
      failure: { code: 'nonzero_exit', message: 'The command ended with exit code 3', hint: null },
    })
  })

  it('tells a timeout with its limit, whatever the exit code', () => {
    const outcome = outcomeOf(ended(137), { reason: 'timeout', timeoutSeconds: 1.5 })
    expect(outcome).toMatchObject({ status: 'timeout', exitCode: 137, failure: { code: 'timeout' } })
    expect(outcome.failure?.message).toContain('1.5 s')
    expect(outcome.failure?.hint).toContain('timeout_seconds')
  })

  it('tells a cancelled run as cancelled', () => {
    expect(outcomeOf(ended(143), { reason: 'cancelled' })).toEqual({
      status: 'cancelled',
      exitCode: 143,
      failure: { code: 'cancelled', message: 'The run was cancelled', hint: null },
    })
  })
})

describe('failureOf', () => {
  it('tells a kill for memory by the flag, never by the exit code', () => {
    expect(failureOf(ended(137, { oomKilled: true }))).toMatchObject({ code: 'oom_killed' })
    expect(failureOf(ended(1, { oomKilled: true }))).toMatchObject({ code: 'oom_killed' })
    expect(failureOf(ended(137))).toMatchObject({ code: 'killed' })
    expect(failureOf(ended(137, { oomKilled: true })).hint).toContain('memory_mb')
  })

  it.each([
    [124, 'nonzero_exit'],
    [125, 'start_failed'],
    [126, 'start_failed'],
    [127, 'start_failed'],
    [128, 'nonzero_exit'],
    [129, 'killed'],
    [192, 'killed'],
    [193, 'nonzero_exit'],
    [255, 'nonzero_exit'],
  ])('exit code %i is %s', (exitCode, code) => {
    expect(failureOf(ended(exitCode)).code).toBe(code)
  })

  it.each([
    [125, 'the container could not be set up'],
    [126, 'the command could not be executed'],
    [127, 'the command was not found'],
  ])('says what exit code %i means', (exitCode, words) => {
    expect(failureOf(ended(exitCode)).message).toBe(`Exit code ${exitCode}: ${words}`)
    expect(failureOf(ended(exitCode, { error: 'exec: "x"' })).message).toBe(
      `Exit code ${exitCode}: ${words}: exec: "x"`,
    )
  })

  it('names a signal, or its number where it has no common name', () => {
    expect(failureOf(ended(143)).message).toContain('SIGTERM')
    expect(failureOf(ended(139)).message).toContain('SIGSEGV')
    expect(failureOf(ended(128 + 40)).message).toContain('signal 40')
  })
})

describe('outcomeOfError', () => {
  it.each([
    ['image_not_found', 'image_not_found'],
    ['pull_failed', 'pull_failed'],
    ['build_failed', 'build_failed'],
    ['unavailable', 'engine_unavailable'],
    ['deadline', 'engine_unavailable'],
    ['not_found', 'engine_error'],
    ['conflict', 'engine_error'],
    ['invalid', 'engine_error'],
    ['subnet_overlap', 'engine_error'],
    ['protocol', 'engine_error'],
    ['failed', 'engine_error'],
  ] satisfies [EngineFault, string][])('the fault %s fails a run as %s', (fault, code) => {
    const outcome = outcomeOfError(new EngineError(fault, 'the words', { hint: 'do this' }))
    expect(outcome).toEqual({
      status: 'failed',
      exitCode: null,
      failure: { code, message: 'the words', hint: 'do this' },
    })
  })

  it.each([
    ['exec: "nope": executable file not found in $PATH: unknown', 127],
    ['stat /app/x: no such file or directory: unknown', 127],
    ['exec: "/etc/passwd": permission denied: unknown', 126],
    ['exec /etc: is a directory', 126],
    ['failed to create shim task: something else', 125],
  ])('gives a failed start the exit code of a shell: %s', (message, exitCode) => {
    expect(outcomeOfError(new EngineError('start_failed', message))).toMatchObject({
      exitCode,
      failure: { code: 'start_failed', message, hint: null },
    })
  })

  it('tells the words and the hint of an error of our own', () => {
    expect(outcomeOfError(new AppError('conflict', 'words', { hint: 'hint' })).failure).toMatchObject({
      message: 'words',
      hint: 'hint',
    })
  })

  it.each([
    [new Error('boom'), 'boom'],
    ['text', 'text'],
    [undefined, 'undefined'],
  ])('survives %s', (error, message) => {
    expect(outcomeOfError(error)).toEqual({
      status: 'failed',
      exitCode: null,
      failure: { code: 'engine_error', message, hint: null },
    })
  })
})

describe('the end of a process and the absence of its engine', () => {
  const at = (seconds: number) => new Date(1_800_000_000_000 + seconds * 1000)
  const process = (from: number, to: number, exitCode = 137) => ({
    startedAt: at(from),
    finishedAt: at(to),
    exitCode,
    oomKilled: false,
  })
  const absence = { lostAt: at(100), restoredAt: at(110) }

  it.each([
    ['killed when the engine came back', process(0, 111), absence, true],
    ['asked to end by an engine that stopped', process(0, 99, 143), absence, true],
    ['killed while it is away still', process(0, 105), { lostAt: at(100), restoredAt: undefined }, true],
    ['of which its engine kept no start', { finishedAt: at(105), exitCode: 137, oomKilled: false }, absence, true],
    ['killed hours later by somebody else', process(0, 9000), absence, false],
    ['killed long before', process(0, 50), absence, false],
    ['started since', process(105, 106), absence, false],
    ['ended by itself meanwhile', process(0, 105, 3), absence, false],
    ['killed for memory', { ...process(0, 105), oomKilled: true }, absence, false],
    ['of an engine that never was away', process(0, 105), { lostAt: undefined, restoredAt: undefined }, false],
  ])('%s', (_, state, away, expected) => {
    expect(endedByEngine(state, away)).toBe(expected)
  })

  it('is told as the engine’s doing, not the command’s', () => {
    expect(outcomeOf({ ...ended(137) }, { engineLeft: true }).failure).toMatchObject({
      code: 'killed',
      message: expect.stringContaining('engine stopped'),
    })
    expect(outcomeOf({ ...ended(255) }, { engineLeft: true }).failure).toMatchObject({
      code: 'killed',
      message: expect.stringContaining('engine stopped while the process ran or was ending'),
      hint: expect.stringContaining('output'),
    })
    expect(outcomeOf({ ...ended(3) }, { engineLeft: true }).failure?.code).toBe('nonzero_exit')
  })
})
