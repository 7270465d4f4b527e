import { EngineError } from '../../errors.ts'

const FULL_ID = /^[0-9a-f]{64}$/

/**
 * A container or network id as it may stand in a path. A short id or a name could resolve to somebody
 * else's container, and a path segment such as "..%2F" to another call altogether.
 */
export function fullId(id: string): string {
  if (FULL_ID.test(id)) return id
  throw new EngineError('invalid', `"${id.slice(0, 80)}" is not a full id of 64 hex digits`)
}
