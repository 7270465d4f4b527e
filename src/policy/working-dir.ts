/** Where a process may begin: pure. */
import { posix } from 'node:path'
import { AppError } from '../errors.ts'
import { isBeneath } from './volumes.ts'

const CLOSED = ['/proc', '/sys', '/dev']

/**
 * True for a working directory in the kernel's file systems: runc before 1.1.12 follows what stands
 * there out of the container (CVE-2024-21626). A relative one is taken from the root.
 */
export function isClosedWorkingDir(path: string): boolean {
  const whole = posix.resolve('/', path)
  return CLOSED.some((folder) => isBeneath(whole, folder))
}

/** Refuses (`policy_denied`) an image whose working directory is in the kernel's file systems. */
export function requireWorkingDir({ workingDir }: { workingDir: string }): void {
  if (!isClosedWorkingDir(workingDir)) return
  throw new AppError('policy_denied', `The image's working directory "${workingDir}" is not one to start in`, {
    rule: 'working_dir',
    hint: 'Use an image with another WORKDIR.',
  })
}
