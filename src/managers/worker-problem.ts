/** How the end of a worker, and the failed start of one, is told: pure. */
import type { Failure } from '../domain/common.ts'
import type { ContainerState } from '../engine/engine.ts'
import { AppError, EngineError } from '../errors.ts'
import { failureOf, outcomeOfError } from './outcome.ts'

/** A start waits for two things, in this order. */
export type StartPhase = 'running' | 'ready'

/** The container of a worker ended, or was gone, while its start waited. */
export class WorkerEnded extends Error {
  readonly phase: StartPhase
  /** Undefined where the container is gone. */
  readonly state: ContainerState | undefined
  constructor(phase: StartPhase, state: ContainerState | undefined) {
    super('The container of the worker ended')
    this.phase = phase
    this.state = state
  }
}

/** What a start waited for did not come in time. */
export class WorkerOverdue extends Error {
  readonly phase: StartPhase
  readonly seconds: number
  /** Of the last try of the ready command. */
  readonly exitCode: number | null
  readonly output: string
  constructor(phase: StartPhase, seconds: number, exitCode: number | null = null, output = '') {
    super('The worker was not ready in time')
    this.phase = phase
    this.seconds = seconds
    this.exitCode = exitCode
    this.output = output
  }
}

/** A caller ended the worker while it started. */
export class WorkerInterrupted extends AppError {
  constructor(how: 'stopped' | 'removed') {
    super('conflict', `The worker was ${how} while it started`)
  }
}

/** What the caller of a start is told. */
export function startProblem(error: unknown, workerId: string, logsTail: string, restarts: number): AppError {
  const details = {
    cause: error,
    instance: `/containers/worker/${workerId}`,
    ...(logsTail === '' ? {} : { logsTail }),
  }
  if (error instanceof WorkerEnded) return endedProblem(error, workerId, restarts, details)
  if (error instanceof WorkerOverdue) return overdueProblem(error, workerId, details)
  if (error instanceof EngineError) return new EngineError(error.fault, error.message, { ...error.details, ...details })
  if (error instanceof AppError) return error.with(details)
  return new AppError('internal_error', `Worker "${workerId}" could not be started`, details)
}

function endedProblem(
  { phase, state }: WorkerEnded,
  workerId: string,
  restarts: number,
  details: AppError['details'],
): AppError {
  const waited = phase === 'running' ? 'did not stay running' : 'ended before its ready command succeeded'
  if (state === undefined) {
    return new AppError('conflict', `Worker "${workerId}" ${waited}: somebody else removed its container`, {
      ...details,
      phase,
    })
  }
  const again = restarts === 0 ? '' : `, ${restarts === 1 ? 'once' : `${restarts} times`} started again`
  return new AppError('start_failed', `Worker "${workerId}" ${waited}: exit code ${state.exitCode}${again}`, {
    ...details,
    phase,
    exitCode: state.exitCode,
    hint:
      (state.exitCode === 0 ? undefined : failureOf(state).hint) ??
      'logs_tail has the last lines that it wrote. A worker lives as long as its command.',
  })
}

function overdueProblem(error: WorkerOverdue, workerId: string, details: AppError['details']): AppError {
  const { phase, seconds, exitCode, output } = error
  const what =
    phase === 'running'
      ? `was not running within ${seconds} seconds`
      : `runs, but its ready command did not succeed within ${seconds} seconds`
  const last = exitCode === null ? '' : `; last exit code ${exitCode}${output === '' ? '' : `: ${output}`}`
  return new AppError('health_check_timeout', `Worker "${workerId}" ${what}${last}`, {
    ...details,
    phase,
    ...(exitCode === null ? {} : { exitCode }),
    hint: phase === 'ready' ? 'Check ready.command by hand in a worker without it, or allow more time.' : undefined,
  })
}

/** What the record of a worker that did not start keeps. */
export function startFailure(problem: AppError, error: unknown): Failure {
  if (error instanceof WorkerEnded && error.state !== undefined && error.state.exitCode !== 0)
    return failureOf(error.state)
  if (error instanceof WorkerInterrupted) return { code: 'cancelled', message: problem.message, hint: null }
  const hint = problem.details.hint ?? null
  if (error instanceof WorkerOverdue) return { code: 'health_check_timeout', message: problem.message, hint }
  const code = problem.code === 'start_failed' ? problem.code : outcomeOfError(problem).failure?.code
  return { code: code ?? 'engine_error', message: problem.message, hint }
}

/** What the record of a worker keeps whose container was gone when it ended. */
export const LOST: Failure = {
  code: 'lost',
  message: 'The container was removed by somebody else while it ran',
  hint: 'Start it again: the workspace is kept.',
}

/** What the record of a worker keeps that made a file which would have taken over git of the host. */
export const BREACH: Failure = {
  code: 'killed',
  message: 'It made a file "commondir" in the main repository, which would have taken over git of the host',
  hint: 'The file is removed. Look at what the worker ran before it is started again.',
}

/** Why a worker ended, where its end is a failure. */
export function workerFailure(state: ContainerState, engineLeft = false): Failure {
  if (state.exitCode === 0) return { code: 'nonzero_exit', message: 'The command ended with exit code 0', hint: null }
  const failure = failureOf(state, engineLeft)
  return failure.code === 'oom_killed' ? { ...failure, hint: 'Raise memory_limit.' } : failure
}
