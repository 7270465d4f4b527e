/**
 * Every failure the service tells a caller about, by stable code. A code without a status does not
 * compile, and the status is decided here only.
 */
const STATUS_OF = {
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
} as const satisfies Record<string, number>

export type ErrorCode = keyof typeof STATUS_OF

/** What needs no rule to be told by. */
export type PlainErrorCode = Exclude<ErrorCode, 'policy_denied'>

export const ERROR_CODES = Object.keys(STATUS_OF) as [ErrorCode, ...ErrorCode[]]

/**
 * What a `policy_denied` was denied by, in words that callers and the audit log can rely on.
 * docs/SECURITY.md says what each of them stands for.
 */
export const POLICY_RULES = [
  'profile',
  'image',
  'build',
  'dockerfile',
  'working_dir',
  'network',
  'host_path',
  'volume',
  'mount_target',
  'root_filesystem',
  'memory',
  'cpus',
  'timeout',
  'pids',
  'open_files',
  'gpu',
  'user',
  'credentials',
  'labels',
  'file_path',
] as const
export type PolicyRule = (typeof POLICY_RULES)[number]

/** HTTP status of an error code: the one place where codes become statuses. */
export function statusOf(code: ErrorCode): number {
  return STATUS_OF[code]
}

/** A fault in one field of a request: `path` in dotted form, as the caller wrote the names. */
export interface FieldError {
  path: string
  message: string
}

export interface ErrorDetails {
  cause?: unknown
  /** What the caller can do about it. */
  hint?: string | undefined
  errors?: FieldError[]
  /** Last output of a container that failed. */
  logsTail?: string | undefined
  /** Of a worker's start: what it waited for when it failed. */
  phase?: 'running' | 'ready'
  /** Of the process or command that failed. */
  exitCode?: number
  /** Path of the resource the failure is about, where one can be fetched. */
  instance?: string
  retryAfterSeconds?: number
  /** Of a `policy_denied`: what denied it. */
  rule?: PolicyRule
}

/** An error with a code that callers can rely on; `message` is shown to them. */
export class AppError extends Error {
  readonly code: ErrorCode
  readonly details: ErrorDetails

  /** What policy denies names the rule. */
  constructor(code: 'policy_denied', message: string, details: ErrorDetails & { rule: PolicyRule })
  constructor(code: PlainErrorCode, message: string, details?: ErrorDetails)
  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'AppError'
    this.code = code
    this.details = details
  }

  /** The same error, with more told of it. */
  with(details: ErrorDetails): AppError {
    const { rule, ...known } = { ...this.details, ...details }
    if (this.code !== 'policy_denied') return new AppError(this.code, this.message, known)
    if (rule === undefined) throw new Error('what policy denied lost its rule')
    return new AppError(this.code, this.message, { ...known, rule })
  }
}

const RESOURCES = {
  session: 'session',
  tool: 'tool run',
  relic: 'relic',
  worker: 'worker',
  exec: 'command',
  container: 'container',
} as const

/** For what there is not, and, in the same words, for what is another caller's. */
export function unknownResource(kind: keyof typeof RESOURCES, id: string): AppError {
  return new AppError('not_found', `There is no ${RESOURCES[kind]} "${id}"`)
}

/**
 * Why the engine did not do what it was asked, in terms that every engine shares.
 * - `unavailable`: it could not be reached, or closed the connection.
 * - `deadline`: it did not answer in time; whether it acted is unknown.
 * - `protocol`: it answered something that its API does not allow.
 * - `invalid`: it refused the request's content.
 */
export type EngineFault =
  | 'not_found'
  | 'conflict'
  | 'invalid'
  | 'subnet_overlap'
  | 'image_not_found'
  | 'pull_failed'
  | 'build_failed'
  | 'start_failed'
  | 'unavailable'
  | 'deadline'
  | 'protocol'
  | 'failed'

export class EngineError extends AppError {
  readonly fault: EngineFault

  constructor(fault: EngineFault, message: string, details: ErrorDetails = {}) {
    const away = fault === 'unavailable' || fault === 'deadline'
    super(away ? 'engine_unavailable' : codeOf(fault), message, {
      ...(away ? { retryAfterSeconds: 1 } : {}),
      ...details,
    })
    this.name = 'EngineError'
    this.fault = fault
  }
}

function codeOf(fault: EngineFault): PlainErrorCode {
  switch (fault) {
    case 'image_not_found':
    case 'pull_failed':
    case 'build_failed':
    case 'start_failed':
      return fault
    default:
      return 'engine_error'
  }
}

/** True where `error` is the engine's, with one of these faults. */
export function isEngineFault(error: unknown, ...faults: EngineFault[]): error is EngineError {
  return error instanceof EngineError && faults.includes(error.fault)
}

/** A setting that stops the start: one line that names it and what is allowed. */
export class ConfigError extends Error {}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
