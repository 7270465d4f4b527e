import { AppError } from '../errors.ts'

/** Who and where a worker is, by the names that every worker has. */
export interface WorkerIdentity {
  workerId: string
  taskId: string | undefined
  sessionId: string | undefined
}

/** Where git's files are inside, for a workspace that is a worktree. */
export interface WorktreeFolders {
  gitDir: string
  commonDir: string
}

const NAMES = ['WORKER_ID', 'TASK_ID', 'SESSION_ID', 'GIT_WORKTREE_DIR', 'GIT_MAIN_DIR'] as const
const RESERVED_PREFIX = '_w_'

/**
 * The variables that the service sets itself: WORKER_ID, TASK_ID and SESSION_ID (empty where there is
 * none), for a worktree GIT_WORKTREE_DIR and GIT_MAIN_DIR, and all of them again under each prefix
 * that the operator set (`ACME` gives ACME_WORKER_ID).
 */
export function identityEnvironment(
  identity: WorkerIdentity,
  worktree: WorktreeFolders | undefined,
  prefixes: readonly string[],
): Record<string, string> {
  const own: Partial<Record<(typeof NAMES)[number], string>> = {
    WORKER_ID: identity.workerId,
    TASK_ID: identity.taskId ?? '',
    SESSION_ID: identity.sessionId ?? '',
    ...(worktree === undefined ? {} : { GIT_WORKTREE_DIR: worktree.gitDir, GIT_MAIN_DIR: worktree.commonDir }),
  }
  const environment: Record<string, string> = { ...own }
  for (const prefix of prefixes) {
    for (const [name, value] of Object.entries(own)) environment[`${prefix}_${name}`] = value
  }
  return environment
}

/** The names of all that `identityEnvironment` may set, whatever the worker is. */
export function identityNames(prefixes: readonly string[]): string[] {
  return NAMES.flatMap((name) => [name, ...prefixes.map((prefix) => `${prefix}_${name}`)])
}

/** Refuses (`validation_failed`) a caller's variables that the service sets itself. */
export function requireOwnVariables(environment: Readonly<Record<string, string>>, prefixes: readonly string[]): void {
  const reserved = new Set(identityNames(prefixes))
  refuse(Object.keys(environment).find((name) => reserved.has(name)))
  requireUnreserved(environment)
}

/** Refuses (`validation_failed`) variables of the service's own programs inside a worker. */
export function requireUnreserved(environment: Readonly<Record<string, string>>): void {
  refuse(Object.keys(environment).find((name) => name.startsWith(RESERVED_PREFIX)))
}

function refuse(name: string | undefined): void {
  if (name === undefined) return
  const message = `${name} is set by the service`
  throw new AppError('validation_failed', `environment.${name}: ${message}`, {
    errors: [{ path: `environment.${name}`, message }],
  })
}
