/** Paths of files in workers as callers write them: pure. */
import { posix } from 'node:path'
import { AppError } from '../errors.ts'
import { isBeneath } from './volumes.ts'
import { WORKSPACE_FOLDER } from './worker-policy.ts'

const MAX_PATH = 1024
/** The kernel's, the service's own, and what lives in memory and no archive shows. */
const CLOSED = ['/proc', '/sys', '/dev', '/.toolbox', '/run/worker']

/**
 * The absolute path of a file in a worker. What begins with "/" is absolute; "workspace/…" stands for
 * /workspace/…; all else lies beneath /workspace. "." and ".." are refused (`validation_failed`), and
 * so is what is not the worker's.
 */
export function workerPath(given: string): string {
  if (given.length > MAX_PATH || given.includes('\0'))
    throw invalid('use a path of at most 1024 characters, without NUL')
  if (given.split('/').some((part) => part === '..' || part === '.')) throw invalid('"." and ".." are not allowed')
  const first = given.split('/')[0]
  const whole = given.startsWith('/') ? given : first === 'workspace' ? `/${given}` : `${WORKSPACE_FOLDER}/${given}`
  const path = posix.normalize(whole).replace(/(.)\/$/, '$1')
  requireOpen(path)
  return path
}

/** Refuses (`policy_denied`) what no caller reads or writes. */
export function requireOpen(path: string): void {
  const closed = CLOSED.find((folder) => isBeneath(path, folder))
  if (closed === undefined) return
  throw new AppError('policy_denied', `Files in ${closed} are not read or written`, { rule: 'file_path' })
}

/** The folder that a path may not lead out of by symlinks: the workspace, or a folder right beneath the root. */
export function boundaryOf(path: string): string {
  if (isBeneath(path, WORKSPACE_FOLDER)) return WORKSPACE_FOLDER
  const end = path.indexOf('/', 1)
  return end === -1 ? path : path.slice(0, end)
}

function invalid(message: string): AppError {
  return new AppError('validation_failed', `path: ${message}`, { errors: [{ path: 'path', message }] })
}
