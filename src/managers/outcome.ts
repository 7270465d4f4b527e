/** How a container's end is told: pure. */
import type { Failure } from '../domain/common.ts'
import type { ToolStatus } from '../domain/tool.ts'
import type { Availability } from '../engine/availability.ts'
import type { ContainerState } from '../engine/engine.ts'
import { AppError, EngineError, ERROR_CODES, messageOf, type PlainErrorCode } from '../errors.ts'

export interface Outcome {
  status: ToolStatus
  exitCode: number | null
  failure: Failure | null
}

/** Why the service itself ended a run. */
export type EndReason = 'timeout' | 'cancelled'

const SIGNALS: Record<number, string> = {
  1: 'SIGHUP',
  2: 'SIGINT',
  3: 'SIGQUIT',
  4: 'SIGILL',
  6: 'SIGABRT',
  7: 'SIGBUS',
  8: 'SIGFPE',
  9: 'SIGKILL',
  11: 'SIGSEGV',
  13: 'SIGPIPE',
  14: 'SIGALRM',
  15: 'SIGTERM',
  24: 'SIGXCPU',
  25: 'SIGXFSZ',
  31: 'SIGSYS',
}

/** What the state of an ended container does not tell. */
export interface EndCircumstances {
  /** Set where the service killed it. */
  reason?: EndReason | undefined
  timeoutSeconds?: number
  /** The process ended while its engine was away. */
  engineLeft?: boolean
}

/** The end of a run whose process has ended. */
export function outcomeOf(
  state: Pick<ContainerState, 'exitCode' | 'oomKilled' | 'error'>,
  { reason, timeoutSeconds, engineLeft = false }: EndCircumstances = {},
): Outcome {
  const { exitCode } = state
  if (reason === 'timeout') {
    return failed(
      'timeout',
      exitCode,
      'timeout',
      `The tool did not end within its ${timeoutSeconds} s and was killed`,
      'Raise resource_limits.timeout_seconds, or give the tool less to do.',
    )
  }
  if (reason === 'cancelled') return failed('cancelled', exitCode, 'cancelled', 'The run was cancelled', null)
  if (exitCode === 0) return { status: 'completed', exitCode, failure: null }
  return { status: 'failed', exitCode, failure: failureOf(state, engineLeft) }
}

/** What an engine tells of a process whose end it did not store, as where it died while it took the container down. */
const LOST_CODE = 255

/** How an engine that stops, or comes back, ends what ran: killed, asked to end, or without a word. */
const ENGINE_ENDS = new Set([137, 143, LOST_CODE])

/** An engine that is asked to stop gives its containers so long, and one that comes back ends them about then. */
const BEFORE_LOST_MS = 20_000
const AFTER_RESTORED_MS = 15_000

/** When an engine was away last. */
export type Absence = Pick<Availability, 'lostAt' | 'restoredAt'>

/** True where a process ended while its engine stopped, was away or came back. */
export function endedInAbsence(
  { startedAt, finishedAt }: Pick<ContainerState, 'startedAt' | 'finishedAt'>,
  { lostAt, restoredAt }: Absence,
): boolean {
  if (lostAt === undefined || (startedAt !== undefined && startedAt >= lostAt)) return false
  const ended = finishedAt?.getTime() ?? Date.now()
  if (ended < lostAt.getTime() - BEFORE_LOST_MS) return false
  return restoredAt === undefined || ended <= restoredAt.getTime() + AFTER_RESTORED_MS
}

/** True where its engine ended a process, by stopping or by coming back. */
export function endedByEngine(
  state: Pick<ContainerState, 'startedAt' | 'finishedAt' | 'exitCode' | 'oomKilled'>,
  absence: Absence,
): boolean {
  return !state.oomKilled && ENGINE_ENDS.has(state.exitCode) && endedInAbsence(state, absence)
}

/** Why a process ended with an exit code that is not 0. */
export function failureOf(
  { exitCode, oomKilled, error }: Pick<ContainerState, 'exitCode' | 'oomKilled' | 'error'>,
  engineLeft = false,
): Failure {
  // The flag tells apart a kill for memory from any other 137.
  if (oomKilled) {
    return {
      code: 'oom_killed',
      message: 'The kernel killed a process for lack of memory',
      hint: 'Raise resource_limits.memory_mb.',
    }
  }
  // By convention of shells, docker-init and the engine itself.
  if (exitCode >= 125 && exitCode <= 127) {
    const cause =
      exitCode === 127
        ? 'the command was not found'
        : exitCode === 126
          ? 'the command could not be executed'
          : 'the container could not be set up'
    return {
      code: 'start_failed',
      message: `Exit code ${exitCode}: ${cause}${error === '' ? '' : `: ${error}`}`,
      hint: 'Check command and entrypoint against what the image contains.',
    }
  }
  if (engineLeft && exitCode === LOST_CODE) {
    return {
      code: 'killed',
      message: `The engine stopped while the process ran or was ending, and does not know how it ended (exit code ${exitCode})`,
      hint: 'The output may tell how far it came: run it again where that does no harm.',
    }
  }
  if (engineLeft && ENGINE_ENDS.has(exitCode)) {
    return {
      code: 'killed',
      message: `The engine stopped while the process ran, and ended it (exit code ${exitCode})`,
      hint: 'It was not the doing of the command: run it again.',
    }
  }
  if (exitCode > 128 && exitCode <= 128 + 64) {
    const signal = SIGNALS[exitCode - 128] ?? `signal ${exitCode - 128}`
    return { code: 'killed', message: `A process ended by ${signal}, which this service did not send`, hint: null }
  }
  return { code: 'nonzero_exit', message: `The command ended with exit code ${exitCode}`, hint: null }
}

/** The end of a run that failed before its process could be watched to its end. */
export function outcomeOfError(error: unknown): Outcome {
  const hint = error instanceof AppError ? (error.details.hint ?? null) : null
  const told = (code: Failure['code'], exitCode: number | null = null): Outcome =>
    failed('failed', exitCode, code, messageOf(error), hint)
  // A refusal of the service's own: a volume of somebody else, no free network.
  if (!(error instanceof EngineError)) return told(error instanceof AppError ? 'start_failed' : 'engine_error')
  switch (error.fault) {
    case 'image_not_found':
    case 'pull_failed':
    case 'build_failed':
      return told(error.fault)
    case 'start_failed':
      return told('start_failed', startExitCode(error.message))
    case 'unavailable':
    case 'deadline':
      return told('engine_unavailable')
    default:
      return told('engine_error')
  }
}

/** The exit code that a shell would give for what the engine says of a failed start. */
function startExitCode(message: string): number {
  if (/executable file not found|no such file or directory/i.test(message)) return 127
  if (/permission denied|is a directory/i.test(message)) return 126
  return 125
}

function failed(
  status: ToolStatus,
  exitCode: number | null,
  code: Failure['code'],
  message: string,
  hint: string | null,
): Outcome {
  return { status, exitCode, failure: { code, message, hint } }
}

/** A view of what was started; where its start failed, the problem that told so, by what its record kept. */
export function startedOrThrow<T extends { failure: Failure | null }>(view: T, started: boolean, instance: string): T {
  const { failure } = view
  if (started || failure === null) return view
  const code = ERROR_CODES.find((known): known is PlainErrorCode => known === failure.code) ?? 'start_failed'
  throw new AppError(code, failure.message, { instance, hint: failure.hint ?? undefined })
}
