import { z } from 'zod'
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

/** An id as an engine tells it. */
export const FullId = z.string().regex(FULL_ID, 'not a full id of 64 hex digits')

/** An image's id as an engine tells it: Podman leaves the prefix out. */
export const ImageId = z.string().regex(/^(sha256:)?[0-9a-f]{64}$/, 'not the id of an image')

/** Refuses an answer about another thing than was asked for. */
export function requireSame(asked: string, told: string, doing: string): void {
  if (told === asked) return
  throw new EngineError('protocol', `The engine answered about "${told.slice(0, 80)}" while ${doing}`)
}
