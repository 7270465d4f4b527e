/** Translation of what a client or the daemon reports into an `EngineError`: the only place for it. */
import { EngineError, type EngineFault, messageOf } from '../../errors.ts'

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EACCES',
  'EPIPE',
  'ENOTFOUND',
  'EHOSTUNREACH',
  'ETIMEDOUT',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_CLOSED',
  'UND_ERR_DESTROYED',
])

/** A daemon's refusal, by status and by words where one status means several things. */
export function faultOfStatus(status: number, message: string): EngineFault {
  // Moby reports a taken range as 403, 400 or 500 depending on its version; Podman as 500.
  if (/pool overlaps|already used on the host|subnet .* is already (in )?use/i.test(message)) return 'subnet_overlap'
  // Podman 4 reports conflicts as 500.
  if (/already in use|already exists|has active endpoints|has associated containers|being used/i.test(message))
    return 'conflict'
  if (status === 404) return 'not_found'
  if (status === 409) return 'conflict'
  if (status === 400) return 'invalid'
  return 'failed'
}

/** An error for a daemon's answer with a status that is not a success. */
export function refusal(doing: string, status: number, message: string): EngineError {
  const fault = faultOfStatus(status, message)
  return new EngineError(fault, `The engine refused while ${doing}: ${message.trim() || `status ${status}`}`)
}

/** An error for whatever a client threw; an `EngineError` passes unchanged. */
export function translate(doing: string, error: unknown): EngineError {
  if (error instanceof EngineError) return error
  const { code, name, cause, statusCode, json } = (error ?? {}) as {
    code?: string
    name?: string
    cause?: { name?: string }
    statusCode?: number
    json?: unknown
  }
  if (typeof statusCode === 'number') {
    const message =
      typeof json === 'object' && json !== null && 'message' in json && typeof json.message === 'string'
        ? json.message
        : messageOf(error)
    return refusal(doing, statusCode, message)
  }
  // Node's http wraps the reason of an abort.
  if (name === 'TimeoutError' || (name === 'AbortError' && cause?.name === 'TimeoutError')) {
    return new EngineError('deadline', `The engine did not answer in time while ${doing}`, { cause: error })
  }
  if (name === 'AbortError') return new EngineError('failed', `Stopped while ${doing}`, { cause: error })
  if (
    (code !== undefined && UNREACHABLE.has(code)) ||
    /socket hang up|other side closed|terminated/.test(messageOf(error))
  ) {
    return new EngineError('unavailable', `The engine could not be reached while ${doing}`, {
      cause: error,
      hint: 'Check that the Docker daemon runs and that DOCKER_HOST names its socket.',
    })
  }
  return new EngineError('failed', `The engine failed while ${doing}: ${messageOf(error)}`, { cause: error })
}

/** Runs `work` and translates what it throws. */
export async function translating<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw translate(doing, error)
  }
}
