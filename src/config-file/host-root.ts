import { realpathSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { ConfigError } from '../errors.ts'

/** A host folder that may be mounted from, free of symlinks; throws a `ConfigError` that begins with `setting`. */
export function resolveHostRoot(path: string, setting: string): string {
  const refuse = (why: string) => new ConfigError(`${setting}: ${why}`)
  if (!isAbsolute(path)) throw refuse('absolute folders only')
  let real: string
  try {
    real = realpathSync(path)
  } catch {
    throw refuse('there is no such folder')
  }
  if (real === '/') throw refuse('the whole host cannot be allowed')
  return real
}
