/** How the failed start of a relic is told: pure. */
import type { Failure } from '../domain/common.ts'
import type { Probe, StartRelic } from '../domain/relic.ts'
import type { ContainerState } from '../engine/engine.ts'
import { AppError, EngineError } from '../errors.ts'
import { failureOf, outcomeOfError } from './outcome.ts'

/** The container ended while something waited for it to be healthy. */
export class RelicDied extends Error {
  /** Undefined where the container is gone. */
  readonly state: ContainerState | undefined
  constructor(state: ContainerState | undefined) {
    super('The container ended')
    this.state = state
  }
}

/** A caller ended the relic while it started. */
export class Interrupted extends AppError {
  constructor(how: 'stopped' | 'removed') {
    super('conflict', `The relic was ${how} while it started`)
  }
}

export interface FailedStart {
  error: unknown
  /** Its whole time was up, not only that for getting healthy. */
  overdue: boolean
  relicId: string
  request: StartRelic
  lastProbe: Probe | undefined
  /** Empty where nothing was written. */
  logsTail: string
}

/** What the caller is told. */
export function startProblem(failed: FailedStart): AppError {
  const { error, overdue, request } = failed
  const name = request.relic_name
  const instance = `/containers/relic/${failed.relicId}`
  const details = { cause: error, instance, ...(failed.logsTail === '' ? {} : { logsTail: failed.logsTail }) }
  if (error instanceof RelicDied) {
    const { state } = error
    const failure = state && failureOf(state)
    const detail = state
      ? `its container ended with exit code ${state.exitCode}`
      : 'somebody else removed its container'
    return new AppError(
      failure?.code === 'start_failed' ? 'start_failed' : 'health_check_timeout',
      `Relic "${name}" never got healthy: ${detail}`,
      { ...details, hint: failure?.hint ?? 'logs_tail has the last lines that it wrote.' },
    )
  }
  if (error instanceof EngineError) return new EngineError(error.fault, error.message, { ...error.details, ...details })
  if (error instanceof AppError && !overdue) return error.with(details)
  const { name: kind } = error as Error
  if (overdue || kind === 'TimeoutError' || kind === 'AbortError') return timeoutProblem(failed, details)
  return new AppError('internal_error', `Relic "${name}" could not be started`, details)
}

function timeoutProblem({ overdue, request, lastProbe }: FailedStart, details: AppError['details']): AppError {
  const { health_check_endpoint, health_check_timeout_seconds, port, resource_limits, relic_name } = request
  const bound = overdue ? resource_limits.timeout_seconds : health_check_timeout_seconds
  const seen = lastProbe === undefined ? 'it was not ready to be asked' : `last, ${lastProbe.error}`
  return new AppError(
    'health_check_timeout',
    `Relic "${relic_name}" was not healthy within ${bound} seconds: ${seen}`,
    {
      ...details,
      hint: `A 2xx from ${health_check_endpoint} on port ${port} makes it healthy. Check health_check_endpoint and port, or allow more time.`,
    },
  )
}

/** What the relic's record keeps of it. */
export function startFailure(problem: AppError, error: unknown): Failure {
  if (error instanceof RelicDied && error.state !== undefined && error.state.exitCode !== 0)
    return failureOf(error.state)
  if (error instanceof Interrupted) return { code: 'cancelled', message: problem.message, hint: null }
  const code = problem.code === 'health_check_timeout' ? problem.code : outcomeOfError(problem).failure?.code
  return { code: code ?? 'engine_error', message: problem.message, hint: problem.details.hint ?? null }
}
